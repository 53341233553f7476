/**
 * What an optimised program does, counted from its instructions: products with their dtypes and operations, calls into
 * libraries, bytes between devices. A loop's body counts as often as XLA knows it to run, or where it may end early as often
 * as it runs at most.
 */
import { mostTrips } from "../Module.ts"
import { bytesOf, type Computation, elementsOf, type HloModule, type HloShape, type Instruction } from "./Hlo.ts"

export interface Product {
  readonly name: string
  /** Dtype of the operands that are multiplied. */
  readonly dtype: string
  readonly shape: HloShape
  /** Numbers that are multiplied and added up for one element. */
  readonly depth: number
  /** Multiplications and additions, all runs of it together. */
  readonly flops: number
}

export interface Account {
  readonly products: ReadonlyArray<Product>
  /** Calls into libraries by target, as often as they run; products among them, attention too. */
  readonly calls: Readonly<Record<string, number>>
  /** Multiplications and additions of fused attention; a causal one does half of the square. */
  readonly attentionFlops: number
  /** Bytes that one device's collectives result in, by kind. */
  readonly collectives: Readonly<Record<string, number>>
  /** Of these, what comes of exchanges in which several hosts take part. */
  readonly betweenHosts: Readonly<Record<string, number>>
  /** The largest value of the entry computation and of loops, the tuples aside. */
  readonly largest: { readonly name: string; readonly bytes: number }
}

const tripsOf = ({ config, said }: Instruction): number => {
  const found = /"known_trip_count":\{"n":"(\d+)"/.exec(config)
  return Number(found?.[1] ?? said.get(mostTrips) ?? 1)
}

/** Sizes that a library's product sums over, from its configuration. */
const contractedOf = ({ config, operands }: Instruction): number => {
  const axes = /"lhs_contracting_dimensions":\[([^\]]*)\]/.exec(config)?.[1] ?? ""
  return [...axes.matchAll(/\d+/g)].reduce((n, [axis]) => n * (operands[0]!.shape.dims[Number(axis)] ?? 1), 1)
}

const firstPart = (shape: HloShape): HloShape => shape.parts[0] ?? shape

const isGemm = ({ target }: Instruction) =>
  /^__cublas\$(lt\$)?(gemm|matmul)/.test(target) || target.startsWith("__triton_gemm")

/** Forward attention is two products, its derivative five, each [time, keys] by the width of a head. */
const attentionFlops = (x: Instruction): number => {
  const q = x.operands[0]!.shape.dims
  const dims = [.../"dimensions":\s*\[([^\]]*)\]/.exec(x.config)![1]!.matchAll(/\d+/g)].map(([n]) => Number(n))
  const square = dims.reduce((n, dim) => n * dim, 1)
  const half = /"CAUSAL"/.test(x.config) ? 0.5 : 1
  return 2 * square * q.at(-1)! * half * (x.target.includes("Backward") ? 5 : 2)
}

const collectives = new Set([
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
  "all-reduce-start",
  "all-gather-start",
  "collective-permute-start"
])

/** @param perHost devices of each host, counted up; all of one where it is left out */
export const accountOf = (module: HloModule, perHost = Number.POSITIVE_INFINITY): Account => {
  const products: Array<Product> = []
  const calls: Record<string, number> = {}
  const moved: Record<string, number> = {}
  const far: Record<string, number> = {}
  /** Who does not say with whom it exchanges does so with all. */
  const leavesHost = ({ groups }: Instruction) =>
    Number.isFinite(perHost) &&
    (groups.length === 0 || groups.some((ids) => new Set(ids.map((id) => Math.floor(id / perHost))).size > 1))
  let attention = 0
  let largest = { name: "", bytes: 0 }
  const visit = ({ instructions }: Computation, times: number, fused: boolean): void => {
    for (const x of instructions) {
      const product = x.opcode === "dot" || (x.opcode === "custom-call" && isGemm(x))
      if (product) {
        const depth = x.opcode === "dot" ? x.contracted.reduce((n, dim) => n * dim, 1) : contractedOf(x)
        const shape = firstPart(x.shape)
        products.push({
          name: x.name,
          dtype: x.operands[0]!.shape.element,
          shape,
          depth,
          flops: 2 * elementsOf(shape) * depth * times
        })
      }
      if (x.opcode === "custom-call") {
        calls[x.target] = (calls[x.target] ?? 0) + times
        if (x.target.startsWith("__cudnn$fmha")) attention += attentionFlops(x) * times
      }
      if (collectives.has(x.opcode)) {
        const kind = x.opcode.replace("-start", "")
        const bytes = bytesOf(x.opcode.endsWith("start") ? (x.shape.parts.at(-1) ?? x.shape) : x.shape) * times
        moved[kind] = (moved[kind] ?? 0) + bytes
        if (leavesHost(x)) far[kind] = (far[kind] ?? 0) + bytes
      }
      if (!fused && x.shape.parts.length === 0 && bytesOf(x.shape) > largest.bytes)
        largest = { name: x.name, bytes: bytesOf(x.shape) }
      for (const called of x.calls)
        visit(called, times * (x.opcode === "while" ? tripsOf(x) : 1), fused || x.opcode === "fusion")
    }
  }
  visit(module.entry, 1, false)
  return { products, calls, attentionFlops: attention, collectives: moved, betweenHosts: far, largest }
}
