/**
 * An optimised program as XLA gives it back (xla/service/hlo.proto, HloModuleProto), as far as it is looked at here:
 * instructions with their types, what they call, and which outputs lie in which arguments.
 */
import { type Groups, groupsOf } from "./groups.ts"
import { Message } from "./wire.ts"

/** A type: an array's elements and sizes; a tuple has parts instead. */
export interface HloShape {
  /** `f32`, `bf16`, `pred`, `tuple`, ... */
  readonly element: string
  readonly dims: ReadonlyArray<number>
  readonly parts: ReadonlyArray<HloShape>
}

export interface Instruction {
  readonly name: string
  readonly opcode: string
  readonly shape: HloShape
  readonly operands: ReadonlyArray<Instruction>
  /** Computations: a fusion's, a loop's body and condition, a reduction's. */
  readonly calls: ReadonlyArray<Computation>
  /** Of a custom call, else empty. */
  readonly target: string
  /** JSON, or empty. */
  readonly config: string
  /** What our text said of it beside what XLA reads, by name. */
  readonly said: ReadonlyMap<string, string>
  /** Sizes of the left operand of a product that are summed over. */
  readonly contracted: ReadonlyArray<number>
  /** Devices among which a collective exchanges; none where it does not say. */
  readonly groups: Groups
}

export interface Computation {
  readonly name: string
  readonly instructions: ReadonlyArray<Instruction>
}

export interface HloModule {
  readonly name: string
  readonly entry: Computation
  /** Numbers of the arguments that outputs are written over. */
  readonly overwritten: ReadonlyArray<number>
}

/** xla_data.proto, PrimitiveType. */
const elements: Readonly<Record<number, string>> = {
  1: "pred",
  2: "s8",
  3: "s16",
  4: "s32",
  5: "s64",
  6: "u8",
  7: "u16",
  8: "u32",
  9: "u64",
  10: "f16",
  11: "f32",
  12: "f64",
  13: "tuple",
  16: "bf16",
  17: "token"
}

const widths: Readonly<Record<string, number>> = {
  pred: 1,
  s8: 1,
  u8: 1,
  s16: 2,
  u16: 2,
  f16: 2,
  bf16: 2,
  s32: 4,
  u32: 4,
  f32: 4,
  s64: 8,
  u64: 8,
  f64: 8
}

export const elementsOf = ({ dims }: HloShape): number => dims.reduce((n, dim) => n * dim, 1)

/** Bytes of a value, all parts of a tuple together. */
export const bytesOf = (shape: HloShape): number =>
  shape.parts.reduce(
    (sum, part) => sum + bytesOf(part),
    shape.element === "tuple" ? 0 : elementsOf(shape) * (widths[shape.element] ?? 0)
  )

const shapeOf = (message: Message | undefined): HloShape => {
  if (message === undefined) return { element: "token", dims: [], parts: [] }
  const number = message.number(2)
  return {
    element: elements[number] ?? `type ${number}`,
    dims: message.numbers(3),
    parts: message.messages(4).map(shapeOf)
  }
}

/** The module in the bytes of a serialised HloModuleProto. Throws a RangeError for bytes that are none. */
export const readModule = (bytes: Uint8Array): HloModule => {
  const message = new Message(bytes)
  const computations = new Map<number, Computation>()
  // what is called stands before its callers
  for (const each of message.messages(3)) {
    const own = new Map<number, Instruction>()
    for (const x of each.messages(2)) {
      const operands = x.numbers(36).map((id) => own.get(id))
      const left = operands[0]?.shape.dims ?? []
      own.set(x.number(35), {
        name: x.text(1),
        opcode: x.text(2),
        shape: shapeOf(x.message(3)),
        operands: operands.filter((y) => y !== undefined),
        calls: x.numbers(38).flatMap((id) => computations.get(id) ?? []),
        target: x.text(28),
        config: x.text(43),
        said: new Map(
          x
            .message(68)
            ?.messages(1)
            .map((entry) => [entry.text(1), entry.text(2)])
        ),
        contracted:
          x
            .message(30)
            ?.numbers(1)
            .map((axis) => left[axis] ?? 1) ?? [],
        groups: groupsOf(x)
      })
    }
    computations.set(each.number(5), { name: each.text(1), instructions: [...own.values()] })
  }
  const entry = computations.get(message.number(6))
  if (entry === undefined) throw new RangeError("the module has no entry computation")
  const overwritten =
    message
      .message(8)
      ?.messages(1)
      .map((alias) => alias.number(2)) ?? []
  return { name: message.text(1), entry, overwritten: overwritten.toSorted((a, b) => a - b) }
}

/** The module in what PJRT calls `hlo_with_config`. */
export const readModuleWithConfig = (bytes: Uint8Array): HloModule => {
  const whole = new Message(bytes).bytes(1)
  if (whole === undefined) throw new RangeError("there is no module in it")
  return readModule(whole)
}
