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
import type { Runtime } from "./runtime.ts"
import { type Port, portText, type Written } from "./writer.ts"

interface InputSlot {
  readonly port: Port
  readonly tensor: CpuTensor
  /** Its elements are copied in before each run. */
  readonly host: boolean
}

interface OutputSlot {
  readonly port: Port
  readonly tensor: CpuTensor
  /** Where the elements are copied to after each run: a new host tensor, a device tensor, or nowhere. */
  readonly copyTo: "host" | CpuTensor | undefined
}

export interface Binding {
  readonly inputs: ReadonlyArray<InputSlot>
  readonly outputs: ReadonlyArray<OutputSlot>
  readonly feeds: number
  readonly intos: number
  readonly inputArguments: Arguments
  readonly outputArguments: Arguments
  /** Tensors and blocks that live as long as the binding. */
  readonly owned: ReadonlyArray<CpuTensor>
  readonly kept: ReadonlyArray<unknown>
  readonly bytes: number
}

export type Feeds = Readonly<Record<string, HostTensor | CpuTensor>>
export type Into = Readonly<Record<string, CpuTensor>>

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
  for (const { port, tensor, host } of binding.inputs) {
    const feed = feeds[port.name]
    if (feed === undefined) return false
    if ("data" in feed) {
      if (!host || feed.dtype !== port.dtype || !sameShape(feed.shape, tensor.shape)) return false
      if (feed.data.length !== tensor.view.length) return false
    } else if (host || feed !== tensor || tensor.released) return false
  }
  for (const { port, tensor, copyTo } of binding.outputs) {
    const place = copyTo === undefined ? tensor : copyTo === "host" ? undefined : copyTo
    if (into[port.name] !== place || place?.released) return false
  }
  return true
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
    if (place === undefined) return { port, tensor: own(port, shape), copyTo: "host" }
    if (place.dtype !== port.dtype || !sameShape(place.shape, shape)) {
      const given = `${place.dtype}[${place.shape.join(", ")}]`
      throw new FeedMismatch(port.name, `is ${portText(port)}, here [${shape.join(", ")}]; ${place.name} is ${given}`)
    }
    const readBy = inputSlots.filter(({ tensor }) => tensor === place)
    const direct = readBy.length === 0 || (readBy.length === 1 && inPlace.get(port.name) === readBy[0]!.port.name)
    return direct ? { port, tensor: place, copyTo: undefined } : { port, tensor: own(port, shape), copyTo: place }
  })
  const values = (slots: ReadonlyArray<InputSlot | OutputSlot>) => pointerArray(slots.map(({ tensor }) => tensor.value))
  const [inputValues, outputValues] = [values(inputSlots), values(outputSlots)]
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
    kept: [inputValues, outputValues],
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
