#!/usr/bin/env bash
# onnxruntime 1.31.1 (Linux, x86-64, the wheel for processors): reporting use to its maker is on by default, and
# onnxruntime.disable_telemetry_events() comes too late to keep it from marking the machine.
#
# Seen 2026-12-01 on Debian 12, Python 3.11.7, without a network (this script takes it away):
#   as it comes:                 .cache/Microsoft/DeveloperTools/.onnxruntime: deviceid onnxruntime.db
#   disable_telemetry_events():  .cache/Microsoft/DeveloperTools/.onnxruntime: deviceid onnxruntime.db
#   ORT_DISABLE_TELEMETRY=1:     nothing
# The collector's address stands in the library; what waits in onnxruntime.db is sent once there is a network. In a CI
# run (CI=true) it keeps silent of its own accord, so that tests do not show it.
#
# What to do: set ORT_DISABLE_TELEMETRY=1 before the first import. It began with 1.29.0 (their change #27379).
#
# Installs onnxruntime, numpy and onnx into a temporary folder; needs python3 and unshare. Status 0: still so; 1: otherwise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 numpy==2.4.6 onnx==1.22.0
cat > "$folder/use.py" <<'PYTHON'
import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

if "api" in sys.argv:
    onnxruntime.disable_telemetry_events()
sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", sides[:1], sides[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
session.run(None, {"x": np.ones(2, np.float32)})
time.sleep(2)
PYTHON

# Prints what a use of the library leaves in an empty home, without a network.
left() {
  rm -rf "$folder/home" && mkdir "$folder/home"
  env -u CI HOME="$folder/home" "$1" unshare --map-root-user --net "$folder/venv/bin/python" "$folder/use.py" "${@:2}"
  (cd "$folder/home" && find . -type f -printf '%f\n' | sed -e '/-shm$/d' -e '/-wal$/d' | sort | paste -sd' ')
}

"$folder/venv/bin/python" -c 'import onnxruntime; print("onnxruntime", onnxruntime.__version__)'
as_it_comes=$(left A=1)
by_call=$(left A=1 api)
by_variable=$(left ORT_DISABLE_TELEMETRY=1)
echo "as it comes:                $as_it_comes"
echo "disable_telemetry_events(): $by_call"
echo "ORT_DISABLE_TELEMETRY=1:    ${by_variable:-nothing}"
[ "$as_it_comes" = "deviceid onnxruntime.db" ] && [ "$by_call" = "$as_it_comes" ] && [ -z "$by_variable" ] || {
  echo "otherwise than in 2026-12" >&2
  exit 1
}
