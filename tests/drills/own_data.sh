# "Own data" of the README on three sets as they are published and one of photographs alone, as it
# is typed: in a folder that holds them, with relative paths. Each command's exit code is printed.
#   bash own_data.sh


typed() {
    SECONDS=0
    imaginet "$@"
    echo "== exit $? $1 $set (${SECONDS} s)"
}

for set in genimage forensynths cifake; do
    I=$set R=runs/$set
    typed annotate --input $I --output $R/annotated
    L=$R/annotated/lists S=$R/annotated/scheme.yaml
    typed audit --root $I --scheme $S --output $R/audit \
        --annotations $L/train.txt $L/head.txt $L/calibration.txt $L/test.txt
    typed train --config demo --annotations $L/train.txt --head-annotations $L/head.txt \
        --root $I --scheme $S --output $R/train
    typed calibrate --detector $R/train/detector --annotations $L/calibration.txt \
        --root $I --scheme $S --against $L/test.txt --output $R/detector
    typed evaluate --detector $R/detector --annotations $L/test.txt --root $I --scheme $S \
        --output $R/evaluation
    typed report --evaluations $R/evaluation --output $R/report
    typed predict --detector $R/detector --input $I --output $R/scores
done

set=photographs I=photographs R=runs/photographs
typed annotate --input $I --output $R/annotated
typed evaluate --detector runs/forensynths/detector --annotations $R/annotated/lists/test.txt \
    --root $I --scheme $R/annotated/scheme.yaml --output $R/evaluation
