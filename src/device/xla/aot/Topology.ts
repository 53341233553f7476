/**
 * Compiling for a machine that is not here: a plugin's compiler against a description of devices (`PJRT_TopologyDescription`)
 * instead of a client. What comes out cannot run here; it can be analysed, and kept for the machine that it is for.
 */
import { pointersAt } from "../../ffi.ts"
import { type CompiledMemory, memoryOf, optimizedProgram, serialized } from "../analysis.ts"
import type { HloModule } from "../hlo/Hlo.ts"
import { Arguments, namedValues, nativeText, type Pjrt } from "../pjrt.ts"
import type { Target } from "./targets.ts"

/** A program compiled for devices that are not here. */
export class Compiled {
  readonly #pjrt: Pjrt
  readonly #pointer: bigint

  constructor(pjrt: Pjrt, pointer: bigint) {
    this.#pjrt = pjrt
    this.#pointer = pointer
  }

  /** For one device. Throws PjrtFailure where the plugin keeps no account. */
  memory(): CompiledMemory {
    return memoryOf(this.#pjrt, this.#pointer)
  }

  /** The optimised program that one device runs. */
  module(): HloModule {
    return optimizedProgram(this.#pjrt, this.#pointer)
  }

  /** For `Client.deserialize` by the same plugin on the target. */
  serialize(): Uint8Array {
    return serialized(this.#pjrt, this.#pointer)
  }

  destroy(): void {
    this.#pjrt.call("Executable_Destroy", (a) => a.pointer(16, this.#pointer))
  }
}

export class Topology {
  readonly target: Target
  readonly devices: number
  /** How many processes would run a program: one a host. */
  readonly processes: number
  readonly #pjrt: Pjrt
  readonly #pointer: bigint

  /**
   * Devices of a target, in equal shares on machines that only a network joins (XLA: partitions x hosts of each x devices of
   * each). Throws PjrtFailure where the plugin refuses the description, and a RangeError for shares that are not whole.
   * @param devices on all hosts together
   */
  constructor(pjrt: Pjrt, target: Target, devices = 1, hosts = 1) {
    if (!Number.isInteger(devices / hosts))
      throw new RangeError(`${hosts} hosts do not have ${devices} devices in equal shares`)
    const values = namedValues({ target_config: target.config, topology: `${hosts}x1x${devices / hosts}` })
    const fill = (a: Arguments) => a.pointer(32, values.address).size(40, values.count)
    this.#pointer = pjrt.call("TopologyDescription_Create", fill).pointerAt(48)
    this.#pjrt = pjrt
    this.target = target
    const list = pjrt.call("TopologyDescription_GetDeviceDescriptions", (a) => a.pointer(16, this.#pointer))
    const descriptions = [...pointersAt(list.pointerAt(24), list.sizeAt(32))]
    const processOf = (description: bigint) =>
      pjrt.call("DeviceDescription_ProcessIndex", (a) => a.pointer(16, description)).intAt(24)
    this.devices = descriptions.length
    this.processes = new Set(descriptions.map(processOf)).size
  }

  /** Compiles a module (StableHLO as text or bytecode), on another thread. Throws PjrtFailure. */
  async compile(module: string | Uint8Array, options: Uint8Array): Promise<Compiled> {
    const [code, format, settings] = [nativeText(module), nativeText("mlir"), nativeText(options)]
    const source = new Arguments().pointer(16, code.address).size(24, code.byteLength)
    source.pointer(32, format.address).size(40, format.byteLength)
    const fill = (a: Arguments) =>
      a
        .pointer(16, this.#pointer)
        .pointer(24, source.address)
        .pointer(32, settings.address)
        .size(40, settings.byteLength)
    const done = await this.#pjrt.pooled("Compile", fill, [code, format, settings, source])
    return new Compiled(this.#pjrt, done.pointerAt(56))
  }

  destroy(): void {
    this.#pjrt.call("TopologyDescription_Destroy", (a) => a.pointer(16, this.#pointer))
  }
}
