"""Settings of declared."""

from pydantic import Field, field_validator

from rayapp.config.paths import OutputUri, Uri
from rayapp.config.settings import Settings

FORMATS = (".csv", ".parquet", ".json")


class DeclaredSettings(Settings):
    """Print what image files declare of their origin; no detector, and nothing is fetched."""

    input: tuple[Uri, ...] = Field(
        min_length=1, description="images, folders or bucket prefixes; they may stand alone"
    )
    output: OutputUri | None = Field(
        None, description="table to write as well: FILE.csv, FILE.parquet or FILE.json"
    )
    trust_list: Uri | None = Field(
        None,
        description="certificates (PEM) to which a C2PA signer's must lead to count as verified; "
        "without it no signer is trusted",
    )
    hidden: bool = Field(
        False,
        description="read also what generators hide in pixels (texts in last bits, Stable "
        "Diffusion's watermark): each image is decoded",
    )

    @field_validator("output")
    @classmethod
    def _is_a_table(cls, uri: str | None) -> str | None:
        if uri is not None and not uri.endswith(FORMATS):
            raise ValueError(f"ends in none of {', '.join(FORMATS)}")
        return uri
