"""The shapes of questions and answers, as the OpenAPI document tells them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rayapp.serve.score_contract import ScoreOptions

Switch = Literal["0", "1", "false", "true"]


class ScoreQuery(BaseModel):
    """What is asked beside the score, in the address."""

    model_config = ConfigDict(extra="forbid")

    detector: str | None = Field(
        None, min_length=1, max_length=200, description="its name; the first where none is given"
    )
    stability: Literal["none", "web"] = Field(
        "none", description="web: also as it is delivered elsewhere; a verdict that flips is unsure"
    )
    map: Switch = Field("0", description="1: where in each image the detector sees what")
    declared: Switch = Field("1", description="0: leave out what files declare of their origin")

    @property
    def options(self) -> ScoreOptions:
        """As whoever scores takes them."""
        return ScoreOptions(self.stability, _on(self.map))

    @property
    def shows_declared(self) -> bool:
        """Whether the answer says what files declare."""
        return _on(self.declared)


def _on(switch: Switch) -> bool:
    return switch in ("1", "true")


class ErrorAnswer(BaseModel):
    """Why a request is not answered."""

    error: str = Field(description="one line: what, where, what to do")


class DetectorCard(BaseModel):
    """What is known of a detector."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="by which requests ask for it")
    hash: str = Field(description="SHA-256 of weights, architecture, preprocessing")
    default: bool = Field(description="whether it answers where a request names none")
    display_name: str = Field(description="what it is, in a line")
    threshold: float | None = Field(description="probability from which on: synthetic")
    band: list[float] | None = Field(description="between these it is unsure")
    classes: list[str] = Field(description="every verdict that it gives")
    decides: str = Field(description="from where on it says what, in words")
    error_rates: str = Field(description="how often it errs, as far as it knows, in words")
    scope: str = Field(description="what it was trained and measured on, in a line")


class EvidenceGrid(BaseModel):
    """Where in an image the detector sees what: logits on a grid over `box`."""

    rows: int
    columns: int
    by: str = Field(description="what a cell's logit is of: windows, or patches")
    logits: list[list[float | None]]
    probabilities: list[list[float | None]] = Field(
        description="by the calibration, which is of whole images: of parts they order"
    )
    box: list[int] = Field(description="left, top, right, bottom in pixels of the upright image")


class ImageAnswer(BaseModel):
    """One image: the columns of predict's scores, and the verdict."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="as it was sent")
    sha256: str | None = Field(description="of the file")
    status: Literal["ok", "failed"]
    error: str | None = Field(description="why it has no score; empty where it has one")
    verdict: str | None = Field(description="real, synthetic, unsure, as predict says it")
    probability: float | None
    margin: float | None = Field(description="probability minus threshold")
    logit: float | None
    reason: str | None = Field(description="why there is nothing to judge; empty where there is")
    reasons: list[str] = Field(description="all that limits the verdict, in words")
    in_words: str = Field(description="the verdict in a sentence or two")
    conflict: str = Field(description="how what the file declares goes against the detector")
    declared: str | None
    declared_by: str | None
    declared_detail: str | None
    p_min: float | None = Field(description="least probability over deliveries, if they were asked")
    p_max: float | None
    flips: int | None = Field(description="deliveries that get another verdict")
    map: EvidenceGrid | None


class ScoreAnswer(BaseModel):
    """The answer to a request, one entry an image in the order of the request."""

    detector: DetectorCard
    images: list[ImageAnswer]
    seconds: float = Field(description="that the answer took, body apart")


class Healthy(BaseModel):
    """The service runs."""

    status: Literal["ok"]


class Ready(BaseModel):
    """The detectors answer."""

    status: Literal["ok"]
    detectors: list[str]


def refused(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The statuses of refusals, for the OpenAPI document."""
    return {code: {"model": ErrorAnswer, "description": _CODES[code]} for code in codes}


_CODES = {
    401: "no bearer token, or none that is known",
    403: "another site's page asked, or by another name of this machine; or images lie elsewhere",
    404: "there is none of that name",
    408: "the body took too long to come",
    409: "the batch is not done",
    413: "the body is larger than the service takes",
    415: "a body of another type",
    422: "what is asked can't be understood, or is over a limit",
    429: "this token has as much under way as it may; see Retry-After",
    503: "the service has as much under way as it takes, or took too long; see Retry-After",
}

_FILE = {"type": "string", "format": "binary"}
SCORE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {"images": {"type": "array", "minItems": 1, "items": _FILE}},
                }
            },
            "application/octet-stream": {"schema": _FILE},
            "image/*": {"schema": _FILE},
            "application/json": {"schema": {"$ref": "#/components/schemas/JsonImages"}},
        },
    }
}
