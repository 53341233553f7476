/**
 * Normalisation over the last axis, computed in float32 for 16-bit inputs.
 *   rmsNorm(x) = x / sqrt(mean(x^2) + epsilon) * weight             (https://arxiv.org/abs/1910.07467)
 *   layerNorm(x) = (x - mean) / sqrt(variance + epsilon) * weight + bias   (https://arxiv.org/abs/1607.06450)
 * With n = the normalised x and g = dy * weight:
 *   dx = (g - n mean(g n)) r           and for layerNorm  dx = (g - mean(g) - n mean(g n)) r,   r = 1 / deviation.
 */
import { add, cast, mul, rsqrt, square, sub } from "../ops/elementwise.ts"
import { reduceMean, reduceSum } from "../ops/reduce.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, checkShape } from "../Tensor.ts"

const keepDims = { keepDims: true }

/** In at least float32. */
export const atLeastF32 = (x: Tensor): Tensor => (x.dtype === "bf16" || x.dtype === "f16" ? cast(x, "f32") : x)

const leading = (x: Tensor): readonly number[] => x.shape.slice(0, -1).map((_, axis) => axis)

type Epsilon = { readonly epsilon: number }

/** Inputs (x [..., n], weight [n]); outputs (y [..., n], inverse root mean square [..., 1]). */
export const rmsNormOp: Composite<Epsilon> = {
  name: "rmsNorm",
  decompose: ([x, weight], { epsilon }) => {
    checkShape("rmsNorm: the weight", weight!, x!.shape.slice(-1))
    const wide = atLeastF32(x!)
    const inverse = rsqrt(add(reduceMean(square(wide), -1, keepDims), epsilon))
    return [mul(cast(mul(wide, inverse), x!.dtype), weight!), inverse]
  },
  // only `rmsNorm` makes it, which shows nobody the second output: there is no cotangent by it
  vjp: ({ inputs: [x, weight], outputs: [, inverse], cotangents: [dy], needs }) =>
    applyComposite(rmsNormGradOp, [dy!, x!, weight!, inverse!], { weight: needs[1]! })
}

/** Inputs (dy, x, weight, inverse); outputs (dx, and with attribute `weight` also dweight). */
export const rmsNormGradOp: Composite<{ readonly weight: boolean }> = {
  name: "rmsNormGrad",
  decompose: ([dy, x, weight, inverse], { weight: byWeight }) => {
    const wideDy = atLeastF32(dy!)
    const normal = mul(atLeastF32(x!), inverse!)
    const g = mul(wideDy, atLeastF32(weight!))
    const dx = mul(sub(g, mul(normal, reduceMean(mul(g, normal), -1, keepDims))), inverse!)
    if (!byWeight) return [cast(dx, x!.dtype)]
    return [cast(dx, x!.dtype), cast(reduceSum(mul(wideDy, normal), leading(x!)), weight!.dtype)]
  }
}

/** Inputs (x [..., n], weight [n], bias [n]); outputs (y [..., n], mean [..., 1], inverse deviation [..., 1]). */
export const layerNormOp: Composite<Epsilon> = {
  name: "layerNorm",
  decompose: ([x, weight, bias], { epsilon }) => {
    checkShape("layerNorm: the weight", weight!, x!.shape.slice(-1))
    checkShape("layerNorm: the bias", bias!, x!.shape.slice(-1))
    const wide = atLeastF32(x!)
    const mean = reduceMean(wide, -1, keepDims)
    const centred = sub(wide, mean)
    const inverse = rsqrt(add(reduceMean(square(centred), -1, keepDims), epsilon))
    return [add(mul(cast(mul(centred, inverse), x!.dtype), weight!), bias!), mean, inverse]
  },
  vjp: ({ inputs: [x, weight], outputs: [, mean, inverse], cotangents: [dy], needs }) => {
    const [dx, dweight] = applyComposite(layerNormGradOp, [dy!, x!, weight!, mean!, inverse!], { weight: needs[1]! })
    return [dx, dweight, needs[2] ? reduceSum(dy!, leading(x!)) : undefined]
  }
}

/** Inputs (dy, x, weight, mean, inverse); outputs (dx, and with attribute `weight` also dweight). */
export const layerNormGradOp: Composite<{ readonly weight: boolean }> = {
  name: "layerNormGrad",
  decompose: ([dy, x, weight, mean, inverse], { weight: byWeight }) => {
    const wideDy = atLeastF32(dy!)
    const normal = mul(sub(atLeastF32(x!), mean!), inverse!)
    const g = mul(wideDy, atLeastF32(weight!))
    const centred = sub(g, reduceMean(g, -1, keepDims))
    const dx = cast(mul(sub(centred, mul(normal, reduceMean(mul(g, normal), -1, keepDims))), inverse!), x!.dtype)
    return byWeight ? [dx, cast(reduceSum(mul(wideDy, normal), leading(x!)), weight!.dtype)] : [dx]
  }
}

/** Root-mean-square normalisation of x [..., n] with a weight [n]. */
export const rmsNorm = (x: Tensor, weight: Tensor, epsilon = 1e-6): Tensor =>
  applyComposite(rmsNormOp, [x, weight], { epsilon })[0]!

/** Layer normalisation of x [..., n] with a weight and a bias [n]. */
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor, epsilon = 1e-12): Tensor =>
  applyComposite(layerNormOp, [x, weight, bias], { epsilon })[0]!
