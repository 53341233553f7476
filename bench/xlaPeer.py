"""The same StableHLO by JAX, on the same plugin: seconds of each call, blocking, weights donated as the module says.

    python xlaPeer.py PLUGIN.so FOLDER STEPS      FOLDER holds module.mlir and inputs.json; prints {"seconds": [...]}
"""
import json, sys, time

import jax
import numpy as np
from jax._src import xla_bridge
from jax._src.lib import xla_client

plugin, folder, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
xla_bridge.register_plugin("peer", library_path=plugin)
jax.config.update("jax_platforms", "peer")
device = jax.devices()[0]
options = xla_client.CompileOptions()
with open(f"{folder}/inputs.json") as file:
    described = json.load(file)
for name, value in described["flags"].items():
    options.env_option_overrides.append((name, value))
with open(f"{folder}/module.mlir") as file:
    program = device.client.compile_and_load(file.read(), xla_client.DeviceList((device,)), options)
numpy = {"f32": np.float32, "i32": np.int32, "bool": np.bool_}
rng = np.random.default_rng(0)


def fresh(port):
    dtype, shape = numpy[port["dtype"]], port["shape"]
    data = rng.integers(0, port["below"], shape) if port["dtype"] == "i32" else rng.normal(0, 0.03, shape)
    return jax.device_put(data.astype(dtype), device)


arguments = [fresh(port) for port in described["inputs"]]
seconds = []
for step in range(steps + 2):
    start = time.perf_counter()
    results = program.execute_sharded(arguments).disassemble_into_single_device_arrays()
    for (result,) in results:
        result.block_until_ready()
    if step >= 2:
        seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds}))
