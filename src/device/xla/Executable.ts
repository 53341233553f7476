/** A compiled program on its device: argument lists that are written anew for each call, and the call. */
import type { Dtype } from "../../tensor/Tensor.ts"
import { allocate } from "../ffi.ts"
import { type CompiledMemory, memoryOf } from "./analysis.ts"
import { type Client, DeviceBuffer } from "./Client.ts"
import { Arguments, namedValuesAt } from "./pjrt.ts"

/** What an executable takes and gives, in order. */
export interface Signature {
  readonly arguments: number
  readonly outputs: ReadonlyArray<{ readonly dtype: Dtype; readonly shape: ReadonlyArray<number> }>
}

const list = (count: number) => {
  const block = allocate(count * 8)
  return { block, view: new BigUint64Array(block.buffer, block.byteOffset, count), numbers: count }
}

export class Executable {
  readonly client: Client
  readonly pointer: bigint
  readonly signature: Signature
  /** The executable apart from its devices: what is serialised and analysed. */
  readonly unloaded: bigint
  readonly #inputs: ReturnType<typeof list>
  readonly #outputs: ReturnType<typeof list>
  readonly #inputLists = list(1)
  readonly #outputLists = list(1)
  readonly #events = list(1)
  readonly #kept: ReturnType<typeof list>
  readonly #options: Arguments
  readonly #call: Arguments
  readonly #execute: (args: bigint) => bigint | null

  constructor(client: Client, pointer: bigint, signature: Signature) {
    this.client = client
    this.pointer = pointer
    this.signature = signature
    const { pjrt } = client
    this.unloaded = pjrt.call("LoadedExecutable_GetExecutable", (a) => a.pointer(16, pointer)).pointerAt(24)
    this.#inputs = list(Math.max(1, signature.arguments))
    this.#outputs = list(Math.max(1, signature.outputs.length))
    this.#kept = list(Math.max(1, signature.arguments))
    this.#inputLists.view[0] = this.#inputs.block.address
    this.#outputLists.view[0] = this.#outputs.block.address
    this.#options = new Arguments().pointer(56, this.#kept.block.address)
    this.#call = new Arguments()
      .pointer(16, pointer)
      .pointer(24, this.#options.address)
      .pointer(32, this.#inputLists.block.address)
      .size(40, 1)
      .size(48, signature.arguments)
      .pointer(56, this.#outputLists.block.address)
      .pointer(64, this.#events.block.address)
    this.#execute = pjrt.function("LoadedExecutable_Execute")
  }

  /**
   * Starts a run; blocks only as long as the plugin takes to start it. Arguments that the program may overwrite are deleted
   * but for those whose positions are in `keep`. The caller owns the outputs and waits for the event. Throws PjrtFailure.
   */
  start(
    inputs: ReadonlyArray<DeviceBuffer>,
    keep: ReadonlyArray<number>
  ): { readonly outputs: ReadonlyArray<DeviceBuffer>; readonly event: bigint } {
    for (let i = 0; i < inputs.length; i++) this.#inputs.view[i] = inputs[i]!.pointer
    for (let i = 0; i < keep.length; i++) this.#kept.view[i] = BigInt(keep[i]!)
    this.#options.size(64, keep.length)
    this.#events.view[0] = 0n
    const error = this.#execute(this.#call.address)
    if (error !== null) throw this.client.pjrt.failure("LoadedExecutable_Execute", error)
    const { outputs } = this.signature
    return {
      outputs: outputs.map(
        ({ dtype, shape }, i) => new DeviceBuffer(this.client, this.#outputs.view[i]!, dtype, shape)
      ),
      event: this.#events.view[0]
    }
  }

  /** XLA's account of the memory; null where the plugin keeps none. */
  memory(): CompiledMemory | null {
    try {
      return memoryOf(this.client.pjrt, this.unloaded)
    } catch {
      return null
    }
  }

  /** XLA's estimate of the work, by its own names (`flops`, `bytes accessed`, ...). */
  cost(): Readonly<Record<string, unknown>> {
    const a = this.client.pjrt.call("Executable_GetCostAnalysis", (args) => args.pointer(16, this.unloaded))
    return namedValuesAt(a.pointerAt(32), a.sizeAt(24))
  }

  serialize(): Uint8Array {
    return this.client.serialize(this.unloaded)
  }

  destroy(): void {
    const { pjrt } = this.client
    pjrt.call("Executable_Destroy", (a) => a.pointer(16, this.unloaded))
    pjrt.call("LoadedExecutable_Destroy", (a) => a.pointer(16, this.pointer))
  }
}
