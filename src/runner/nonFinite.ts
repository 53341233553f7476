/**
 * JSON has no NaN and no infinities. In rows they become null, and what they were is told by an event, so that a
 * diverging run is seen as one; in a checkpoint's state they are refused, because null would come back as something
 * else.
 */
import { Predicate } from "effect"

export interface NonFinite {
  /** Dotted path within the value. */
  readonly path: string
  readonly value: "NaN" | "Infinity" | "-Infinity"
}

/** Every NaN and infinity in a value, with its place. */
export const nonFinite = (value: unknown, path = ""): ReadonlyArray<NonFinite> => {
  if (typeof value === "number") {
    return Number.isFinite(value) ? [] : [{ path, value: String(value) as NonFinite["value"] }]
  }
  if (!Predicate.isObjectOrArray(value)) return []
  return Object.entries(value).flatMap(([key, inner]) => nonFinite(inner, path === "" ? key : `${path}.${key}`))
}

/** Throws a `TypeError` for a value that JSON would not give back as it is. */
export const assertJson = (value: unknown, what: string): void => {
  const [first] = nonFinite(value)
  if (first !== undefined) {
    throw new TypeError(
      `${what}: ${first.path === "" ? "it" : first.path} is ${first.value}, which JSON cannot keep; use null or leave the key out`
    )
  }
}
