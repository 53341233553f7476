/**
 * A program for a range of sizes from a program with named dimensions: every tensor has room for the largest sizes, the
 * true ones come in as scalars, and what lies beyond them is masked wherever it could reach a result. The new program is
 * one of the language, of fixed sizes: it compiles once for the range, and the reference interpreter can run it.
 *
 * Results are those of the program for the true sizes, up to the order of sums.
 */
import type { Dim } from "../../../tensor/Dim.ts"
import { sizeOf } from "../../../tensor/Dim.ts"
import { loop } from "../../../tensor/ops/control.ts"
import { less, select } from "../../../tensor/ops/elementwise.ts"
import { mayEndEarly } from "../../../tensor/ops/mayEndEarly.ts"
import type { Program } from "../../../tensor/Program.ts"
import { expand, program, specialise } from "../../../tensor/Program.ts"
import { reach } from "../../../tensor/rewrite.ts"
import type { Body, Composite, CompositeOp, Node, PrimitiveOf, Tensor } from "../../../tensor/Tensor.ts"
import { input, parameter } from "../../../tensor/Tensor.ts"
import type { Bucket } from "../buckets.ts"
import { paddedAttention } from "./attention.ts"
import { allAxes, filled, isExact, type Layout, type Padded, placesOf, relaid, sameLayout } from "./Layout.ts"
import { paddedOverwrite } from "./overwrite.ts"
import { type Context, rules } from "./rules.ts"
import { Sizes, sizeInput } from "./Sizes.ts"

const single = (sizes: Sizes, dim: Dim): Layout => [{ dim, places: sizes.bounds(dim).high }]

/** All axes of a tensor with their elements at the first places. */
const plain = (x: Padded, shape: ReadonlyArray<Dim>, sizes: Sizes): Padded =>
  shape.reduce<Padded>((y, dim, axis) => relaid(sizes, y, axis, single(sizes, dim)), x)

type AnyRule = (op: never, inputs: ReadonlyArray<Padded>, to: Context) => ReadonlyArray<Padded>

class Padding {
  readonly sizes: Sizes
  readonly context: Context
  /** How products of dimensions were laid out when axes were merged: later ones follow. */
  readonly #learnt = new Map<string, Layout>()

  constructor(ranges: Readonly<Record<string, Bucket>>) {
    this.sizes = new Sizes(ranges)
    this.context = {
      sizes: this.sizes,
      layoutFor: (given) => {
        const dim = this.sizes.settle(given)
        return (typeof dim === "number" ? undefined : this.#learnt.get(dim.text)) ?? single(this.sizes, dim)
      }
    }
  }

  /** The padded tensors that stand for some tensors, given those that stand for others. */
  run(results: ReadonlyArray<Tensor>, known: Map<Tensor, Padded>): ReadonlyArray<Padded> {
    for (const node of reach(results, (x) => known.has(x))) {
      const inputs = node.inputs.map((x) => known.get(x)!)
      const outputs = node.op.kind === "composite" ? this.#composite(node, node.op, known) : this.#node(node, inputs)
      node.outputs.forEach((x, i) => {
        known.set(x, outputs[i]!)
        this.#learn(outputs[i]!)
      })
    }
    return results.map((x) => known.get(x)!)
  }

  #learn({ layouts }: Padded): void {
    for (const layout of layouts) {
      if (layout.length < 2) continue
      const dim = sizeOf(layout.map((factor) => factor.dim))
      if (typeof dim !== "number" && !this.#learnt.has(dim.text)) this.#learnt.set(dim.text, layout)
    }
  }

  /** A composite that was kept stays one where a rule knows how to keep padding out of it. */
  #composite(node: Node, op: CompositeOp, known: Map<Tensor, Padded>): ReadonlyArray<Padded> {
    const inputs = node.inputs.map((x) => known.get(x)!)
    return (
      paddedAttention(op, inputs, this.sizes) ??
      paddedOverwrite(op, inputs, this.sizes) ??
      this.run(op.definition.decompose(node.inputs, op.attributes), known)
    )
  }

  #node({ op }: Node, inputs: ReadonlyArray<Padded>): ReadonlyArray<Padded> {
    if (op.kind === "loop") return this.#loop(op, inputs)
    if (op.kind === "composite" || op.kind === "input" || op.kind === "parameter")
      throw new Error(`${op.kind} is no rule's`)
    const table: { readonly [kind: string]: AnyRule } = rules
    // the key is the kind of the operation, so the rule is the one for this operation
    return table[op.kind]!(op as never, inputs, this.context)
  }

  #loop(op: PrimitiveOf<"loop">, inputs: ReadonlyArray<Padded>): ReadonlyArray<Padded> {
    const { sizes } = this
    const trips = sizes.settle(op.trips)
    const { high: most } = sizes.bounds(trips)
    const stack = single(sizes, trips)
    const given = inputs.slice(0, op.carried)
    const scanned = inputs.slice(op.carried, op.carried + op.scanned).map((x) => relaid(sizes, x, 0, stack))
    const rest = inputs.slice(op.carried + op.scanned)
    const kept = this.#keptClean(op, given, scanned, rest)
    const carried = given.map((x, i) =>
      kept[i] && !x.clean ? { ...x, tensor: filled(sizes, x, allAxes(x)), clean: true } : x
    )
    const shapes: Array<ReadonlyArray<Layout>> = []
    const whole = loop(
      {
        trips: most,
        carried: carried.map((x) => x.tensor),
        scanned: scanned.map((x) => x.tensor),
        reverse: op.reverse
      },
      (state) => {
        const args: ReadonlyArray<Padded> = [
          { tensor: state.index, layouts: [], clean: true },
          ...state.carried.map((tensor, i) => ({ ...carried[i]!, tensor, clean: kept[i]! })),
          ...state.scanned.map((tensor, i) => ({ ...scanned[i]!, tensor, layouts: scanned[i]!.layouts.slice(1) })),
          ...rest
        ]
        const results = this.#body(op.body, args)
        const active = typeof trips === "number" ? undefined : less(state.index, sizes.value(trips))
        return {
          carried: results.slice(0, op.carried).map((x, i) => {
            const own = carried[i]!.layouts.reduce((y, layout, axis) => relaid(sizes, y, axis, layout), x)
            return active === undefined ? own.tensor : select(active, own.tensor, state.carried[i]!)
          }),
          stacked: results.slice(op.carried).map((x, i) => {
            shapes[i] = x.layouts
            return x.tensor
          })
        }
      }
    )
    const result = op.endsEarly && op.carried > 0 ? mayEndEarly(whole) : whole
    return [
      ...result.carried.map((tensor, i) => ({ tensor, layouts: carried[i]!.layouts, clean: kept[i]! })),
      ...result.stacked.map((tensor, i) => {
        const layouts = [stack, ...shapes[i]!]
        return { tensor, layouts, clean: layouts.every(isExact) }
      })
    ]
  }

  /**
   * Which of a loop's state holds zeros wherever there are no elements in every trip, if it does before the first: it is
   * masked once then, and not in every trip. What was assumed and does not come out is given up, until the rest does.
   */
  #keptClean(
    { body, carried }: PrimitiveOf<"loop">,
    state: ReadonlyArray<Padded>,
    scanned: ReadonlyArray<Padded>,
    rest: ReadonlyArray<Padded>
  ): ReadonlyArray<boolean> {
    const exact = state.map(({ layouts }) => layouts.every(isExact))
    let clean = state.map(() => true)
    if (exact.every((x) => x)) return clean
    const stand = (x: Padded, shape = x.tensor.shape) => parameter(0, { shape, dtype: x.tensor.dtype })
    for (;;) {
      const results = this.#body(body, [
        { tensor: parameter(0, { shape: [], dtype: "i32" }), layouts: [], clean: true },
        ...state.map((x, i) => ({ ...x, tensor: stand(x), clean: clean[i]! })),
        ...scanned.map((x) => ({ ...x, tensor: stand(x, x.tensor.shape.slice(1)), layouts: x.layouts.slice(1) })),
        ...rest
      ])
      const next = results.slice(0, carried).map((x, i) => {
        const { layouts } = state[i]!
        return (
          exact[i]! || (clean[i]! && x.clean && x.layouts.every((layout, axis) => sameLayout(layout, layouts[axis]!)))
        )
      })
      if (next.every((x, i) => x === clean[i])) return clean
      clean = next
    }
  }

  #body(body: Body, args: ReadonlyArray<Padded>): ReadonlyArray<Padded> {
    return this.run(body.results, new Map(body.parameters.map((x, i) => [x, args[i]!])))
  }
}

export interface PadOptions {
  /** Composites that stay whole, for a writer that knows something faster than their definitions. */
  readonly keep?: (definition: Composite) => boolean
}

export interface PaddedProgram {
  readonly program: Program
  /** The scalar inputs' values for sizes. */
  readonly scalars: (sizes: Readonly<Record<string, number>>) => Readonly<Record<string, Int32Array>>
}

/**
 * The program for all sizes in some ranges; those of a single size are fixed. Inputs and outputs keep their names, with the
 * largest sizes; the elements of each stand at the beginning of every axis. Throws Unpaddable.
 */
export const padProgram = (
  source: Program,
  buckets: Readonly<Record<string, Bucket>>,
  { keep }: PadOptions = {}
): PaddedProgram => {
  const fixed = Object.fromEntries(
    Object.entries(buckets).flatMap(([name, { high, low }]) => (low === high ? [[name, high]] : []))
  )
  const ranges = Object.fromEntries(Object.entries(buckets).filter(([, { high, low }]) => low !== high))
  const some = specialise(source, fixed)
  if (Object.keys(ranges).length === 0) return { program: some, scalars: () => ({}) }
  const primitive = expand(some, keep)
  const padding = new Padding(ranges)
  const { sizes } = padding
  const known = new Map<Tensor, Padded>()
  const inputs: Array<Tensor> = []
  for (const [name, x] of primitive.inputs) {
    const shape = x.shape.map((dim) => sizes.settle(dim))
    const layouts = shape.map((dim) => single(sizes, dim))
    const tensor = input(name, x.dtype, layouts.map(placesOf))
    inputs.push(tensor)
    known.set(x, { tensor, layouts, clean: layouts.every(isExact) })
  }
  const names = [...primitive.outputs.keys()]
  const tensors = [...primitive.outputs.values()]
  const outputs = padding.run(tensors, known).map((x, i) =>
    plain(
      x,
      tensors[i]!.shape.map((dim) => sizes.settle(dim)),
      sizes
    )
  )
  return {
    program: program(source.name, {
      inputs: [...inputs, ...sizes.inputs],
      outputs: Object.fromEntries(names.map((name, i) => [name, outputs[i]!.tensor])),
      donate: Object.fromEntries(source.donate)
    }),
    scalars: (given) =>
      Object.fromEntries(Object.keys(ranges).map((name) => [sizeInput(name), Int32Array.of(given[name]!)]))
  }
}
