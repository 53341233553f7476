/**
 * How many nodes of one program may run on the CPU where a card was asked for. Each is two copies between device and host in
 * every run, so a program with many is as slow as if there were no card: it is refused by the nodes' names, unless allowed.
 */

/** Training, scoring and decoding have none; single operations of a user's own some. */
export const usualFallbacks = 8

/** The bound is none; the message says what one is. */
export class BadBound extends Error {}

/** The bound: OVERTONE_WEBGPU_FALLBACKS, a whole number or `any`; 8 where it is not set. Throws BadBound. */
export const fallbackBound = (text = process.env["OVERTONE_WEBGPU_FALLBACKS"]): number => {
  if (text === undefined || text.trim() === "") return usualFallbacks
  if (text.trim() === "any") return Number.POSITIVE_INFINITY
  if (/^\s*\d{1,9}\s*$/.test(text)) return Number(text)
  throw new BadBound(
    `OVERTONE_WEBGPU_FALLBACKS=${text} is no number of nodes: write a whole number, or any (default ${usualFallbacks})`
  )
}

/** Why a program is refused. */
export const fallbackText = (nodes: ReadonlyArray<{ readonly name: string }>, bound: number): string =>
  `${nodes.length} of its nodes would run on the CPU, more than ${bound}, since the provider has no kernel for them: ` +
  `${nodes.map(({ name }) => name).join(", ")}. Say it by other operations, compute it with --device cpu, or allow it: ` +
  "OVERTONE_WEBGPU_FALLBACKS=any"
