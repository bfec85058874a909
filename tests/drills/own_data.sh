# "Own data" of the README on three sets as they are published and one of photographs alone, as it
# is typed: in a folder that holds them, with relative paths. Each command's exit code is printed.
#   bash own_data.sh REPOSITORY

imaginet() { python "$repository/jobs/$1.py" "${@:2}"; }  # goes where the console command is there
repository=$1
out=$PWD/runs  # to become runs: training loses a relative --output

typed() {
    SECONDS=0
    imaginet "$@"
    echo "== exit $? $1 $set (${SECONDS} s)"
}

for set in genimage forensynths cifake; do
    typed annotate --input $set --output $out/$set/annotated
    L=$out/$set/annotated/lists S=$out/$set/annotated/scheme.yaml
    typed audit --root $set --scheme $S --output $out/$set/audit \
        --annotations $L/train.txt $L/head.txt $L/calibration.txt $L/test.txt
    typed train --config demo --annotations $L/train.txt --head-annotations $L/head.txt \
        --root $set --scheme $S --output $out/$set/train
    typed calibrate --detector $out/$set/train/detector --annotations $L/calibration.txt \
        --root $set --scheme $S --against $L/test.txt --output $out/$set/detector
    typed evaluate --detector $out/$set/detector --annotations $L/test.txt --root $set \
        --scheme $S --output $out/$set/evaluation
    typed report --evaluations $out/$set/evaluation --output $out/$set/report
    typed predict --detector $out/$set/detector --input $set --output $out/$set/scores
done

set=photographs
typed annotate --input $set --output $out/$set/annotated
typed evaluate --detector $out/forensynths/detector --root $set --output $out/$set/evaluation \
    --annotations $out/$set/annotated/lists/test.txt --scheme $out/$set/annotated/scheme.yaml
