/**
 * The error function in float64: Taylor's series with positive terms below 3, the continued fraction of erfc above
 * (Abramowitz and Stegun 7.1.6 and 7.1.14); relative error below 1e-14.
 */
export const erf = (x: number): number => {
  if (Number.isNaN(x)) return x
  const z = Math.abs(x)
  if (z > 6) return Math.sign(x)
  if (z < 3) {
    let term = z
    let sum = z
    for (let n = 1; term > sum * 1e-17; n++) sum += term *= (2 * z * z) / (2 * n + 1)
    return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z) * sum
  }
  let tail = z
  for (let n = 60; n > 0; n--) tail = z + n / 2 / tail
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / tail)
}
