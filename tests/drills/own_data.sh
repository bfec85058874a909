# "Own data" of the README on three sets as they are published and one of photographs alone, as it
# is typed: in a folder that holds them, with relative paths. Each command's exit code is printed.
#   bash own_data.sh REPOSITORY

repository=$1
imaginet() { python "$repository/jobs/$1.py" "${@:2}"; }  # goes where the console command is there
here=$PWD/  # to become empty: training and calibration don't take relative paths yet

typed() {
    SECONDS=0
    imaginet "$@"
    echo "== exit $? $1 $set (${SECONDS} s)"
}

for set in genimage forensynths cifake; do
    typed annotate --input $set --output ${here}runs/$set/annotated
    L=${here}runs/$set/annotated/lists S=${here}runs/$set/annotated/scheme.yaml
    typed audit --root ${here}$set --scheme $S --output ${here}runs/$set/audit \
        --annotations $L/train.txt $L/head.txt $L/calibration.txt $L/test.txt
    typed train --config demo --annotations $L/train.txt --head-annotations $L/head.txt \
        --root ${here}$set --scheme $S --output ${here}runs/$set/train
    typed calibrate --detector ${here}runs/$set/train/detector --annotations $L/calibration.txt \
        --root ${here}$set --scheme $S --against $L/test.txt --output ${here}runs/$set/detector
    typed evaluate --detector ${here}runs/$set/detector --annotations $L/test.txt --root ${here}$set \
        --scheme $S --output ${here}runs/$set/evaluation
    typed report --evaluations ${here}runs/$set/evaluation --output ${here}runs/$set/report
    typed predict --detector ${here}runs/$set/detector --input $set --output ${here}runs/$set/scores
done

set=photographs
typed annotate --input $set --output ${here}runs/$set/annotated
typed evaluate --detector ${here}runs/forensynths/detector --root ${here}$set --output ${here}runs/$set/evaluation \
    --annotations ${here}runs/$set/annotated/lists/test.txt --scheme ${here}runs/$set/annotated/scheme.yaml
