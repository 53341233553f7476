/**
 * Canonical JSON and its hash, as `docs/formats.md` fixes them: keys sorted by code unit, no white space, numbers as
 * ECMAScript prints them (-0 as 0), no `undefined`, NaN or infinities. Equal values have equal bytes on every machine.
 */
import { createHash } from "node:crypto"

export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/** @throws TypeError naming the place of a value that JSON cannot say; keys whose value is `undefined` are left out. */
export const canonicalJson = (value: unknown, path = "$"): string => {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value)
    case "boolean":
      return String(value)
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`canonical JSON: ${path} is ${value}`)
      return JSON.stringify(value)
    case "object": {
      if (value === null) return "null"
      if (Array.isArray(value)) return `[${value.map((item, i) => canonicalJson(item, `${path}[${i}]`)).join(",")}]`
      const record = value as Readonly<Record<string, unknown>>
      const keys = Object.keys(record).filter((key) => record[key] !== undefined)
      const entries = keys
        .sort(byCodeUnit)
        .map((key) => `${JSON.stringify(key)}:${canonicalJson(record[key], `${path}.${key}`)}`)
      return `{${entries.join(",")}}`
    }
    default:
      throw new TypeError(`canonical JSON: ${path} is of type ${typeof value}`)
  }
}

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** SHA-256 in lower-case hexadecimal. */
export const sha256 = (bytes: string | Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

/** SHA-256 of canonical JSON. */
export const hashOf = (value: unknown): string => sha256(canonicalJson(value))
