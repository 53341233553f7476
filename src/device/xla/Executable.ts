/** A compiled program on its devices: argument lists that are written anew for each call, and the call. */
import type { Dtype } from "../../tensor/Tensor.ts"
import { allocate, type Block, pointerArray } from "../ffi.ts"
import { type Mesh, meshDevices } from "../mesh.ts"
import { type CompiledMemory, memoryOf } from "./analysis.ts"
import { type Client, DeviceBuffer } from "./Client.ts"
import { Arguments } from "./pjrt.ts"
import { type Laid, Spread } from "./Spread.ts"
import { type Placement, shareShape } from "./sharding.ts"

/** What an executable takes and gives, in order. */
export interface Signature {
  readonly arguments: number
  readonly outputs: ReadonlyArray<{
    readonly dtype: Dtype
    readonly shape: ReadonlyArray<number>
    /** Over a mesh: how it lies there. */
    readonly placement?: Placement | undefined
  }>
  /** The devices that it runs on at once; one where it is left out. */
  readonly mesh?: Mesh | undefined
}

const list = (count: number) => {
  const block = allocate(count * 8)
  return { block, view: new BigUint64Array(block.buffer, block.byteOffset, count) }
}

export class Executable {
  readonly client: Client
  readonly pointer: bigint
  readonly signature: Signature
  /** The executable apart from its devices: what is serialised and analysed. */
  readonly unloaded: bigint
  /** Of each device. */
  readonly #inputs: ReadonlyArray<ReturnType<typeof list>>
  readonly #outputs: ReadonlyArray<ReturnType<typeof list>>
  readonly #events: ReturnType<typeof list>
  /** Shapes of what one device holds of each output. */
  readonly #shares: ReadonlyArray<ReadonlyArray<number>>
  readonly #inputLists: Block
  readonly #outputLists: Block
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
    const { mesh } = signature
    const devices = mesh === undefined ? 1 : meshDevices(mesh)
    const lists = (count: number) => Array.from({ length: devices }, () => list(Math.max(1, count)))
    this.#inputs = lists(signature.arguments)
    this.#outputs = lists(signature.outputs.length)
    this.#events = list(devices)
    this.#kept = list(Math.max(1, signature.arguments))
    this.#shares = signature.outputs.map(({ placement, shape }) =>
      mesh === undefined || placement === undefined ? shape : shareShape(mesh, placement.spec, shape)
    )
    this.#inputLists = pointerArray(this.#inputs.map(({ block }) => block.address))
    this.#outputLists = pointerArray(this.#outputs.map(({ block }) => block.address))
    this.#options = new Arguments().pointer(56, this.#kept.block.address)
    this.#call = new Arguments()
      .pointer(16, pointer)
      .pointer(24, this.#options.address)
      .pointer(32, this.#inputLists.address)
      .size(40, devices)
      .size(48, signature.arguments)
      .pointer(56, this.#outputLists.address)
      .pointer(64, this.#events.block.address)
    this.#execute = pjrt.function("LoadedExecutable_Execute")
  }

  /**
   * Starts a run; blocks only as long as the plugin takes to start it. Arguments that the program may overwrite are deleted
   * but for those whose positions are in `keep`. The caller owns the outputs and waits for the events, one a device. Throws
   * PjrtFailure.
   */
  start(
    inputs: ReadonlyArray<Laid>,
    keep: ReadonlyArray<number>
  ): { readonly outputs: ReadonlyArray<Laid>; readonly events: ReadonlyArray<bigint> } {
    for (let i = 0; i < inputs.length; i++) {
      const { shards } = inputs[i]!
      for (let device = 0; device < this.#inputs.length; device++) {
        this.#inputs[device]!.view[i] = shards[device]!.pointer
      }
    }
    for (let i = 0; i < keep.length; i++) this.#kept.view[i] = BigInt(keep[i]!)
    this.#options.size(64, keep.length)
    this.#events.view.fill(0n)
    const error = this.#execute(this.#call.address)
    if (error !== null) throw this.client.pjrt.failure("LoadedExecutable_Execute", error)
    return {
      outputs: this.signature.outputs.map(({ dtype, placement, shape }, i) => {
        const shards = this.#outputs.map(({ view }) => new DeviceBuffer(this.client, view[i]!, dtype, this.#shares[i]!))
        return placement === undefined ? shards[0]! : new Spread(dtype, shape, shards, placement)
      }),
      events: [...this.#events.view]
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

  serialize(): Uint8Array {
    return this.client.serialize(this.unloaded)
  }

  destroy(): void {
    const { pjrt } = this.client
    pjrt.call("Executable_Destroy", (a) => a.pointer(16, this.unloaded))
    pjrt.call("LoadedExecutable_Destroy", (a) => a.pointer(16, this.pointer))
  }
}
