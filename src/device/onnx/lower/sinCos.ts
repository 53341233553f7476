/**
 * Sine and cosine to about 1e-7 from products and sums, for providers whose own are good to 2^-11 only. With k = the nearest
 * integer to 2 x / pi and r = x - k pi / 2 (pi / 2 in three parts, so that the products with k are exact), sin x is one of
 * +-sin r and +-cos r, by k modulo 4; the polynomials on |r| <= pi / 4 are those of Cephes (sinf.c). Good for |x| up to 1e5.
 */
import type { Graph, Name } from "../Graph.ts"

const halfPi = [1.5703125, 4.837512969970703e-4, 7.549789954891882e-8]
const sineTerms = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]
const cosineTerms = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]

/** sin x, or cos x = sin(x + pi / 2), of float32. */
export const sinCos = (fn: "sin" | "cos", x: Name, graph: Graph): Name => {
  const f = (value: number) => graph.scalar("f32", value)
  const add = (a: Name, b: Name) => graph.node("Add", [a, b])
  const sub = (a: Name, b: Name) => graph.node("Sub", [a, b])
  const mul = (a: Name, b: Name) => graph.node("Mul", [a, b])
  const floor = (a: Name) => graph.node("Floor", [a])
  const polynomial = (z: Name, terms: ReadonlyArray<number>) =>
    terms.slice(1).reduce((sum, term) => add(mul(sum, z), f(term)), f(terms[0]!))
  const k = floor(add(mul(x, f(2 / Math.PI)), f(0.5)))
  const r = halfPi.reduce((rest, part) => sub(rest, mul(k, f(part))), x)
  const z = mul(r, r)
  const sine = add(r, mul(mul(r, z), polynomial(z, sineTerms)))
  const cosine = add(sub(f(1), mul(z, f(0.5))), mul(mul(z, z), polynomial(z, cosineTerms)))
  const turn = fn === "sin" ? k : add(k, f(1))
  const quarter = sub(turn, mul(floor(mul(turn, f(0.25))), f(4)))
  const isOdd = graph.node("Equal", [sub(quarter, mul(floor(mul(quarter, f(0.5))), f(2))), f(1)])
  const size = graph.node("Where", [isOdd, cosine, sine])
  return graph.node("Where", [graph.node("Less", [quarter, f(1.5)]), size, graph.node("Neg", [size])])
}
