/**
 * Activations of feed-forward layers, and the logistic loss.
 *   swiglu(gate, up) = gate sigmoid(gate) up        (Shazeer 2020, https://arxiv.org/abs/2002.05202)
 *   gelu(x) = x (1 + erf(x / sqrt 2)) / 2           (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)
 *   logSigmoid(x) = min(x, 0) - log(1 + exp(-|x|))  (stable at both ends)
 */
import { abs, add, erf, exp, log1p, min, mul, neg, sigmoid, square, sub } from "../ops/elementwise.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, checkShape } from "../Tensor.ts"

/** Inputs (gate, up), of one shape; outputs (y). */
export const swigluOp: Composite = {
  name: "swiglu",
  decompose: ([gate, up]) => {
    checkShape("swiglu: the second operand", up!, gate!.shape)
    return [mul(mul(gate!, sigmoid(gate!)), up!)]
  },
  vjp: ({ inputs: [gate, up], cotangents: [dy] }) => applyComposite(swigluGradOp, [dy!, gate!, up!], {})
}

/** Inputs (dy, gate, up); outputs (dgate, dup). */
export const swigluGradOp: Composite = {
  name: "swigluGrad",
  decompose: ([dy, gate, up]) => {
    const s = sigmoid(gate!)
    const silu = mul(gate!, s)
    // d silu = s + silu (1 - s)
    return [mul(mul(dy!, up!), add(s, mul(silu, sub(1, s)))), mul(dy!, silu)]
  }
}

/** Inputs (x); outputs (y). */
export const geluOp: Composite = {
  name: "gelu",
  decompose: ([x]) => [mul(mul(x!, 0.5), add(erf(mul(x!, Math.SQRT1_2)), 1))],
  vjp: ({ inputs: [x], cotangents: [dy] }) => applyComposite(geluGradOp, [dy!, x!], {})
}

/** Inputs (dy, x); outputs (dx): `dy (Phi(x) + x phi(x))`. */
export const geluGradOp: Composite = {
  name: "geluGrad",
  decompose: ([dy, x]) => {
    const cdf = mul(add(erf(mul(x!, Math.SQRT1_2)), 1), 0.5)
    const pdf = mul(exp(mul(square(x!), -0.5)), 1 / Math.sqrt(2 * Math.PI))
    return [mul(dy!, add(cdf, mul(x!, pdf)))]
  }
}

/** Inputs (x); outputs (y). */
export const logSigmoidOp: Composite = {
  name: "logSigmoid",
  decompose: ([x]) => [sub(min(x!, 0), log1p(exp(neg(abs(x!)))))],
  vjp: ({ inputs: [x], cotangents: [dy] }) => [mul(dy!, sigmoid(neg(x!)))]
}

/** `gate sigmoid(gate) up`. */
export const swiglu = (gate: Tensor, up: Tensor): Tensor => applyComposite(swigluOp, [gate, up], {})[0]!

/** The exact GELU (by erf). */
export const gelu = (x: Tensor): Tensor => applyComposite(geluOp, [x], {})[0]!

/** The logarithm of the logistic function. */
export const logSigmoid = (x: Tensor): Tensor => applyComposite(logSigmoidOp, [x], {})[0]!

/** `log(1 + exp(x))`. */
export const softplus = (x: Tensor): Tensor => neg(logSigmoid(neg(x)))
