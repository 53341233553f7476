/**
 * DuckDB values as JSON, as docs/warehouse.md promises: integers below 2^53 and decimals as numbers, larger integers as
 * strings; lists as arrays, structs (and maps, by their keys' text) as objects; JSON columns parsed; NaN and infinities
 * null; timestamps ISO 8601 in UTC; everything else as DuckDB prints it.
 */
import {
  DuckDBArrayType,
  DuckDBArrayValue,
  DuckDBDecimalValue,
  DuckDBListType,
  DuckDBListValue,
  DuckDBMapType,
  DuckDBMapValue,
  type DuckDBResultReader,
  DuckDBStructType,
  DuckDBStructValue,
  DuckDBTimestampMillisecondsValue,
  DuckDBTimestampNanosecondsValue,
  DuckDBTimestampSecondsValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  type DuckDBType,
  DuckDBUnionType,
  DuckDBUnionValue,
  type DuckDBValue,
  DuckDBVariantValue
} from "@duckdb/node-api"
import type { Json } from "../dsl/canonical.ts"

/** ISO 8601 of nanoseconds since 1970, with as many digits of a second as it needs but at least three; null off the end. */
const isoTime = (nanos: bigint): string | null => {
  const fraction = ((nanos % 1_000_000n) + 1_000_000n) % 1_000_000n
  const date = new Date(Number((nanos - fraction) / 1_000_000n))
  if (Number.isNaN(date.getTime())) return null
  const digits =
    fraction === 0n
      ? ""
      : String(fraction)
          .padStart(6, "0")
          .replace(/(000)$/, "")
  return date.toISOString().replace("Z", `${digits}Z`)
}

const nanosOf = (value: DuckDBValue): bigint | null => {
  if (value instanceof DuckDBTimestampValue || value instanceof DuckDBTimestampTZValue) return value.micros * 1000n
  if (value instanceof DuckDBTimestampMillisecondsValue) return value.millis * 1_000_000n
  if (value instanceof DuckDBTimestampSecondsValue) return value.seconds * 1_000_000_000n
  return value instanceof DuckDBTimestampNanosecondsValue ? value.nanos : null
}

/** A column of SQL type JSON holds JSON text. */
const parsed = (text: string): Json => {
  try {
    return JSON.parse(text) as Json
  } catch {
    return text
  }
}

const itemType = (type: DuckDBType | undefined): DuckDBType | undefined =>
  type instanceof DuckDBListType || type instanceof DuckDBArrayType ? type.valueType : undefined

/** One value; its type tells JSON columns from text. */
export const toJson = (value: DuckDBValue, type?: DuckDBType): Json => {
  switch (typeof value) {
    case "boolean":
      return value
    case "number":
      return Number.isFinite(value) ? value : null
    case "bigint":
      return value >= -9007199254740991n && value <= 9007199254740991n ? Number(value) : String(value)
    case "string":
      return type?.alias === "JSON" ? parsed(value) : value
  }
  if (value === null) return null
  if (value instanceof DuckDBDecimalValue) return Number(value.toString())
  if (value instanceof DuckDBListValue || value instanceof DuckDBArrayValue) {
    const inner = itemType(type)
    return value.items.map((item) => toJson(item, inner))
  }
  if (value instanceof DuckDBStructValue) {
    const types = type instanceof DuckDBStructType ? type.entryTypes : []
    return Object.fromEntries(Object.entries(value.entries).map(([name, entry], i) => [name, toJson(entry, types[i])]))
  }
  if (value instanceof DuckDBMapValue) {
    const inner = type instanceof DuckDBMapType ? type.valueType : undefined
    return Object.fromEntries(value.entries.map((entry) => [String(entry.key), toJson(entry.value, inner)]))
  }
  if (value instanceof DuckDBUnionValue) {
    return toJson(value.value, type instanceof DuckDBUnionType ? type.memberTypeForTag(value.tag) : undefined)
  }
  if (value instanceof DuckDBVariantValue) return toJson(value.value, value.type)
  const nanos = nanosOf(value)
  return nanos === null ? value.toString() : isoTime(nanos)
}

export type JsonRow = Readonly<Record<string, Json>>

/** All rows of a result; a column name that comes twice gets a number. */
export const jsonRows = (reader: DuckDBResultReader): ReadonlyArray<JsonRow> => {
  const names = reader.deduplicatedColumnNames()
  const types = reader.columnTypes()
  return reader.getRows().map((row) => Object.fromEntries(row.map((value, c) => [names[c]!, toJson(value, types[c])])))
}
