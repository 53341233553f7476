/**
 * DAPO's soft overlong penalty (arXiv 2503.14476, eq. 13): answers that come close to the limit lose reward before they are
 * cut off.
 *
 *     0 up to limit - buffer tokens, then weight * (limit - buffer - length) / buffer, down to -weight at the limit
 *
 * DAPO: limit 20480, buffer 4096, weight 1.
 */
export const overlongPenalty = (length: number, limit: number, buffer: number, weight = 1): number => {
  if (!(buffer > 0 && buffer <= limit)) throw new RangeError(`a buffer of ${buffer} tokens in a limit of ${limit}`)
  const into = Math.min(Math.max(length - (limit - buffer), 0), buffer)
  return into === 0 ? 0 : (-weight * into) / buffer
}
