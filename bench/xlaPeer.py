"""The same StableHLO by JAX, on the same plugin, with the same compile options: one step for each line of standard input.

    python xlaPeer.py PLUGIN.so FOLDER      FOLDER holds module.mlir, options.bin and inputs.json

A step copies what the host feeds to the device, computes, waits for all results and reads the first: what ours does. It
prints {"seconds", "processor", "faults"}: by the clock, of the processor, and pages that the system had to hand out.
"""
import json, resource, sys, time

import jax
import numpy as np
from jax._src import xla_bridge
from jax._src.lib import xla_client

plugin, folder = sys.argv[1:3]
xla_bridge.register_plugin("peer", library_path=plugin)
jax.config.update("jax_platforms", "peer")
device = jax.devices()[0]
with open(f"{folder}/options.bin", "rb") as file:
    options = xla_client.CompileOptions.ParseFromString(file.read())
with open(f"{folder}/inputs.json") as file:
    inputs = json.load(file)
with open(f"{folder}/module.mlir") as file:
    program = device.client.compile_and_load(file.read(), xla_client.DeviceList((device,)), options)
dtypes = {"f32": np.float32, "i32": np.int32, "bool": np.bool_}
rng = np.random.default_rng(0)


def values(port):
    shape = port["shape"]
    data = rng.integers(0, port["below"], shape) if port["dtype"] == "i32" else rng.normal(0, 0.03, shape)
    return data.astype(dtypes[port["dtype"]])


host = [values(port) for port in inputs]
# token ids are fed in every step, weights stay
resident = [None if port["dtype"] == "i32" else jax.device_put(data, device) for port, data in zip(inputs, host)]
results = None


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_minflt


for _ in sys.stdin:
    processor, faults = used()
    start = time.perf_counter()
    arguments = [jax.device_put(data, device) if x is None else x for x, data in zip(resident, host)]
    results = program.execute_sharded(arguments).disassemble_into_single_device_arrays()
    for (result,) in results:
        result.block_until_ready()
    loss = float(np.asarray(results[0][0]))
    seconds = time.perf_counter() - start
    after = used()
    told = {"seconds": seconds, "processor": after[0] - processor, "faults": after[1] - faults}
    print(json.dumps(told), flush=True)
