/**
 * The class bf16, as a rewriting of a program that was written in float32: products multiply bfloat16 numbers and add up in
 * float32, everything else (norms, softmax, losses, optimizers, residual streams) stays as it is. As in PyTorch's autocast,
 * weights and their gradients stay float32 unless they are stored otherwise; a weight is rounded where it is multiplied.
 *
 * A product's sums are rounded to bfloat16 where it takes a stream of states [batch, time, width] through a stored weight;
 * derivatives of weights, logits, and products of two computed things keep them. The vocabulary head keeps its logits and the
 * sums over its chunks. Attention keeps the log-sum-exp for its derivative whatever float32 keeps.
 */
import { attentionGradOp, attentionOp } from "../../tensor/composites/attention.ts"
import { cachedAttentionOp } from "../../tensor/composites/cachedAttention.ts"
import { linearLogprobsGradOp, linearLogprobsOp } from "../../tensor/composites/linearLogprobs.ts"
import { cast } from "../../tensor/ops/elementwise.ts"
import { type Program, program } from "../../tensor/Program.ts"
import { reach, reapply, rewrite } from "../../tensor/rewrite.ts"
import type { Composite, Node, PrimitiveOf, Tensor } from "../../tensor/Tensor.ts"
import { apply, applyComposite, input, parameter } from "../../tensor/Tensor.ts"

/** Composites whose float32 inputs are rounded as a whole: their definitions say what stays wide inside. */
const rounded: ReadonlySet<Composite<never>> = new Set<Composite<never>>([
  attentionOp,
  attentionGradOp,
  cachedAttentionOp
])
const heads: ReadonlySet<Composite<never>> = new Set<Composite<never>>([linearLogprobsOp, linearLogprobsGradOp])

/** What only moves elements: a weight stays one through it. */
const moves = new Set(["cast", "reshape", "transpose", "slice", "broadcast", "barrier", "concat"])

const isMatrix = ({ op }: Node) => op.kind === "dot" || op.kind === "loop" || op.kind === "composite"

/** What a tensor was widened from, where that is bfloat16. */
const narrowOf = ({ dtype, node: { inputs, op } }: Tensor): Tensor | undefined =>
  dtype !== "bf16" && op.kind === "cast" && inputs[0]!.dtype === "bf16" ? inputs[0] : undefined

class Rewriting {
  /** Tensors that stand for stored weights, or lie in them. */
  readonly #stored = new Set<Tensor>()
  readonly #narrow = new Map<Tensor, Tensor>()

  constructor(stored: Iterable<Tensor>) {
    for (const x of stored) this.#stored.add(x)
  }

  /** In bfloat16; the very tensor that was widened where there is one. */
  rounded(x: Tensor): Tensor {
    if (x.dtype !== "f32") return x
    const known = this.#narrow.get(x)
    if (known) return known
    const made = narrowOf(x) ?? cast(x, "bf16")
    this.#narrow.set(x, made)
    return made
  }

  /** In float32; before the last rounding where that is known. */
  #wide(x: Tensor): Tensor {
    const { inputs, op } = x.node
    return op.kind === "cast" && inputs[0]!.dtype === "f32" ? inputs[0]! : cast(x, "f32")
  }

  #isStored(x: Tensor): boolean {
    const { inputs, op } = x.node
    if (this.#stored.has(x)) return true
    const one = moves.has(op.kind) && (inputs.length === 1 || op.kind === "concat")
    return one && inputs.every((y) => this.#isStored(y))
  }

  readonly replace = (node: Node, inputs: readonly Tensor[]): readonly Tensor[] => {
    const { op } = node
    if (op.kind === "dot") return this.#dot(op, inputs)
    if (op.kind === "loop") return this.#loop(op, inputs)
    if (op.kind === "gather") return this.#gather(op, inputs)
    if (op.kind !== "composite") return reapply(node, inputs)
    const { attributes, definition } = op
    if (rounded.has(definition)) return this.#attention(node, inputs)
    if (heads.has(definition)) {
      // the derivative's float32 inputs beside states and weight are numbers a token
      const given = inputs.map((x) => (x.shape.length > 1 ? this.rounded(x) : x))
      return definition.decompose(given, attributes).map((x) => this.#wide(x))
    }
    const parts = definition.decompose(inputs, attributes)
    const inner = reach(parts, (x) => inputs.includes(x))
    if (!inner.some(isMatrix)) return reapply(node, inputs)
    return rewrite(parts, this.replace, new Map(inputs.map((x) => [x, x])))
  }

  #dot(op: PrimitiveOf<"dot">, inputs: readonly Tensor[]): readonly Tensor[] {
    const [left, right] = [inputs[0]!, inputs[1]!]
    if (left.dtype !== "f32" || right.dtype !== "f32") return apply(op, inputs)
    const stream = left.shape.length > 2 && right.shape.length === 2 && this.#isStored(right)
    const dtype = stream ? "bf16" : "f32"
    const product = apply({ ...op, accumulate: "f32", dtype }, [this.rounded(left), this.rounded(right)])
    return product.map((x) => cast(x, "f32"))
  }

  /** Rows of a table that is stored in bfloat16 are widened once they are read, not the table. */
  #gather(op: PrimitiveOf<"gather">, [table, indices]: readonly Tensor[]): readonly Tensor[] {
    return apply(op, [narrowOf(table!) ?? table!, indices!]).map((x) => cast(x, table!.dtype))
  }

  #attention(node: Node, inputs: readonly Tensor[]): readonly Tensor[] {
    const { op } = node
    if (op.kind !== "composite") return reapply(node, inputs)
    const { attributes, definition } = op
    // what a derivative reuses stays as wide as it was computed: the log-sum-exp, and what comes by it
    const first = definition === attentionGradOp ? 5 : inputs.length
    const given = inputs.map((x, i) => (i < first && x.dtype === "f32" ? this.rounded(x) : x))
    const probabilities = attributes["saved"] === "probabilities"
    const made = applyComposite(definition, given, probabilities ? { ...attributes, saved: "logSumExp" } : attributes)
    return node.outputs.map((x, i) => {
      // the third output, probabilities, is read by the derivative alone, which now reads the second instead
      const own = made[i] ?? made[1]!
      return x.dtype === own.dtype ? own : cast(own, x.dtype)
    })
  }

  /** What is stacked of rounded values, and read by slices or by every trip, is handed over as it was rounded. */
  #loop(op: PrimitiveOf<"loop">, inputs: readonly Tensor[]): readonly Tensor[] {
    const { body, carried } = op
    const given = inputs.map((x, i) => (i < carried ? x : this.#asRead(x)))
    const fresh = body.parameters.map((x, i) => {
      const [own, before] = [given[i - 1], inputs[i - 1]]
      return own === before ? x : parameter(i, { shape: x.shape, dtype: own!.dtype })
    })
    fresh.forEach((x, i) => {
      if (i > carried && this.#isStored(inputs[i - 1]!)) this.#stored.add(x)
    })
    const known = new Map(body.parameters.map((x, i) => [x, cast(fresh[i]!, x.dtype)]))
    const wide = rewrite(body.results, this.replace, known)
    const results = wide.map((x, i) => (i < carried ? x : (narrowOf(x) ?? x)))
    return apply({ ...op, body: { parameters: fresh, results } }, given).map((x, i) => cast(x, wide[i]!.dtype))
  }

  /** A tensor that a loop reads: what it was widened from, and weights laid on one another rounded before they are. */
  #asRead(x: Tensor): Tensor {
    // matrices: nothing else of a layer is only multiplied
    const layers = x.node.op.kind === "concat" && x.shape.length === 3 && this.#isStored(x)
    return layers ? this.rounded(x) : (narrowOf(x) ?? x)
  }
}

export interface Bf16Options {
  /**
   * Names of float32 inputs that the program takes in bfloat16 instead, and that the outputs written over them are given in:
   * weights that nothing changes, and caches.
   */
  readonly stored?: ReadonlySet<string>
}

const made = new WeakMap<Program, Program>()

/** `inBf16` without options, made once for a program. */
export const bf16Of = (source: Program): Program => {
  const known = made.get(source) ?? inBf16(source)
  made.set(source, known)
  return known
}

/** The program in bfloat16; inputs and outputs keep their names, and but for those stored otherwise their dtypes. */
export const inBf16 = (source: Program, { stored = new Set() }: Bf16Options = {}): Program => {
  const inputs = new Map(
    [...source.inputs].map(([name, x]) => [x, stored.has(name) ? input(name, "bf16", x.shape) : x] as const)
  )
  const known = new Map([...inputs].map(([x, own]) => [x, cast(own, x.dtype)]))
  const rewriting = new Rewriting(inputs.values())
  const wide = rewrite([...source.outputs.values()], rewriting.replace, known)
  const outputs = [...source.outputs.keys()].map((name, i) =>
    stored.has(source.donate.get(name) ?? "") ? rewriting.rounded(wide[i]!) : wide[i]!
  )
  return program(source.name, {
    inputs: [...inputs.values()],
    outputs: Object.fromEntries([...source.outputs.keys()].map((name, i) => [name, outputs[i]!])),
    donate: Object.fromEntries(source.donate)
  })
}
