/**
 * The argument blocks of a run call. It takes C arrays of names and values; they are made once for each set of device
 * tensors and host shapes (a binding) and used again, so that a call with device tensors allocates nothing. Host tensors go
 * through slots of the binding, in aligned memory.
 */

import { evaluateDim } from "../../tensor/Dim.ts"
import { bindDims } from "../../tensor/interpret.ts"
import type { Program } from "../../tensor/Program.ts"
import { FeedMismatch, ReleasedTensor } from "../failure.ts"
import { pointerArray, type stringArray } from "../ffi.ts"
import { type HostTensor, holds } from "../HostTensor.ts"
import type { Arguments } from "./api.ts"
import { CpuTensor } from "./CpuTensor.ts"
import type { OrtTensor } from "./OrtTensor.ts"
import type { Runtime } from "./runtime.ts"
import { GpuTensor } from "./webgpu/GpuTensor.ts"
import { type Port, portText, type Written } from "./writer.ts"

/** A host tensor's elements are copied into the slot before each run; a device tensor is used where it lies. */
type InputSlot = { readonly port: Port } & (
  | { readonly host: true; readonly tensor: CpuTensor }
  | { readonly host: false; readonly tensor: OrtTensor }
)

/**
 * What becomes of an output after each run: it is returned (`read`); it lies where it belongs (`stays`); it is copied there
 * (`moves`); or it was computed in the place's second buffer, which now becomes its first (`turns`).
 */
type OutputSlot = { readonly port: Port } & (
  | { readonly after: "read"; readonly tensor: CpuTensor }
  | { readonly after: "stays"; readonly tensor: OrtTensor; readonly place: OrtTensor }
  | { readonly after: "moves"; readonly tensor: CpuTensor; readonly place: CpuTensor }
  | { readonly after: "turns"; readonly tensor: GpuTensor; readonly place: GpuTensor }
)

export interface Binding {
  readonly inputs: ReadonlyArray<InputSlot>
  readonly outputs: ReadonlyArray<OutputSlot>
  readonly feeds: number
  readonly intos: number
  readonly inputArguments: Arguments
  readonly outputArguments: Arguments
  /** Tensors and blocks that live as long as the binding. */
  readonly owned: ReadonlyArray<CpuTensor>
  /** The values in the argument blocks, which change where a tensor has two buffers. */
  readonly inputValues: BigUint64Array
  readonly outputValues: BigUint64Array
  readonly bytes: number
}

export type Feeds = Readonly<Record<string, HostTensor | OrtTensor>>
export type Into = Readonly<Record<string, OrtTensor>>

/** The loaded model that argument blocks are made for. */
export interface Bound {
  readonly runtime: Runtime
  readonly program: Program
  readonly written: Written
  readonly constants: ReadonlyArray<CpuTensor>
  readonly inputNames: ReturnType<typeof stringArray>
  readonly outputNames: ReturnType<typeof stringArray>
}

const sameShape = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): boolean => {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

const countKeys = (record: object): number => {
  let n = 0
  for (const _ in record) n++
  return n
}

/** Whether a binding was made for these feeds: the same device tensors, host tensors of the same shapes. */
export const matches = (binding: Binding, feeds: Feeds, into: Into): boolean => {
  if (countKeys(feeds) !== binding.feeds || countKeys(into) !== binding.intos) return false
  for (const slot of binding.inputs) {
    const feed = feeds[slot.port.name]
    if (feed === undefined) return false
    if ("data" in feed) {
      if (!slot.host || feed.dtype !== slot.port.dtype || !sameShape(feed.shape, slot.tensor.shape)) return false
      if (feed.data.length !== slot.tensor.view.length) return false
    } else if (slot.host || feed !== slot.tensor || slot.tensor.released) return false
  }
  for (const slot of binding.outputs) {
    const place = slot.after === "read" ? undefined : slot.place
    if (into[slot.port.name] !== place || place?.released) return false
  }
  return true
}

const valueOf = (slot: OutputSlot): bigint => (slot.after === "turns" ? slot.tensor.back : slot.tensor.value)

/** Writes the tensors' values as they are now into the argument blocks: tensors with two buffers change theirs. */
export const refresh = (binding: Binding): void => {
  binding.inputs.forEach(({ tensor }, i) => {
    binding.inputValues[i] = tensor.value
  })
  binding.outputs.forEach((slot, i) => {
    binding.outputValues[i] = valueOf(slot)
  })
}

/** Argument blocks for these feeds; `FeedMismatch` or `ReleasedTensor` where they do not fit the program. */
export const bind = (model: Bound, feeds: Feeds, into: Into): Binding => {
  const { constants, inputNames, outputNames, program, runtime, written } = model
  const { inputs, outputs, inPlace } = written
  for (const name in feeds) if (!program.inputs.has(name)) throw unknown("input", name, inputs)
  for (const name in into) if (!program.outputs.has(name)) throw unknown("output", name, outputs)
  const shapes: Record<string, { readonly shape: ReadonlyArray<number> }> = {}
  for (const name of program.inputs.keys()) {
    const constant = written.constants.indexOf(name)
    const feed = constant >= 0 ? constants[constant]! : feeds[name]
    if (feed !== undefined) shapes[name] = feed
  }
  const dims = dimsOf(program, shapes)
  const owned: Array<CpuTensor> = []
  const own = (port: Port, shape: ReadonlyArray<number>): CpuTensor => {
    const tensor = new CpuTensor(runtime, port.name, port.dtype, shape)
    owned.push(tensor)
    return tensor
  }
  for (const given of [...Object.values(feeds), ...Object.values(into)]) {
    if ("released" in given && given.released) throw new ReleasedTensor(given.name)
  }
  const inputSlots = inputs.map((port): InputSlot => {
    const feed = feeds[port.name]!
    if (feed.dtype !== port.dtype) throw new FeedMismatch(port.name, `is ${portText(port)}, not ${feed.dtype}`)
    if (!("data" in feed)) return { port, tensor: feed, host: false }
    const tensor = own(port, feed.shape)
    if (!holds(port.dtype, feed.data) || feed.data.length !== tensor.view.length) {
      const given = `${feed.data.constructor.name} of ${feed.data.length} elements`
      throw new FeedMismatch(port.name, `its ${given} is no ${feed.dtype}[${feed.shape.join(", ")}]`)
    }
    return { port, tensor, host: true }
  })
  const outputSlots = outputs.map((port): OutputSlot => {
    const shape = port.shape.map((dim) => evaluateDim(dim, dims))
    const place = into[port.name]
    if (place === undefined) return { port, tensor: own(port, shape), after: "read" }
    if (place.dtype !== port.dtype || !sameShape(place.shape, shape)) {
      const given = `${place.dtype}[${place.shape.join(", ")}]`
      throw new FeedMismatch(port.name, `is ${portText(port)}, here [${shape.join(", ")}]; ${place.name} is ${given}`)
    }
    const readBy = inputSlots.filter(({ tensor }) => tensor === place)
    const direct = readBy.length === 0 || (readBy.length === 1 && inPlace.get(port.name) === readBy[0]!.port.name)
    if (direct) return { port, tensor: place, place, after: "stays" }
    if (place instanceof GpuTensor) return { port, tensor: place, place, after: "turns" }
    if (!(place instanceof CpuTensor)) throw new TypeError(`${place.name} is a tensor of another device`)
    return { port, tensor: own(port, shape), place, after: "moves" }
  })
  const inputValues = pointerArray(inputSlots.map(({ tensor }) => tensor.value))
  const outputValues = pointerArray(outputSlots.map(valueOf))
  return {
    inputs: inputSlots,
    outputs: outputSlots,
    feeds: countKeys(feeds),
    intos: countKeys(into),
    inputArguments: { names: inputNames.pointers.address, values: inputValues.address, count: inputs.length },
    outputArguments: {
      names: outputNames.pointers.address,
      values: outputValues.address,
      count: outputs.length
    },
    owned,
    inputValues: new BigUint64Array(inputValues.buffer, inputValues.byteOffset, inputs.length),
    outputValues: new BigUint64Array(outputValues.buffer, outputValues.byteOffset, outputs.length),
    bytes: owned.reduce((sum, tensor) => sum + tensor.byteLength, 0)
  }
}

const dimsOf = (program: Program, shapes: Readonly<Record<string, { readonly shape: ReadonlyArray<number> }>>) => {
  try {
    return bindDims(program, shapes)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const [, name = null] = /^input "([^"]*)"/.exec(error.message) ?? []
    throw new FeedMismatch(name, error.message)
  }
}

const unknown = (what: string, name: string, ports: ReadonlyArray<Port>): FeedMismatch =>
  new FeedMismatch(null, `there is no ${what} ${name}; it has ${ports.map(portText).join(", ") || "none"}`)
