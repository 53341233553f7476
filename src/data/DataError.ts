/**
 * What can be wrong with a data set: one error, `DataError`, whose `reason` says which. Every message names the file
 * (or query), the line or row, the field, and what to do about it.
 */
import { Schema } from "effect"

/** The file cannot be read, or a query cannot be run. */
export class SourceUnreadable extends Schema.TaggedError<SourceUnreadable>()("SourceUnreadable", {
  source: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.source}: ${this.detail}`
  }
}

/** The file's ending names no format that is read. */
export class UnknownFormat extends Schema.TaggedError<UnknownFormat>()("UnknownFormat", { source: Schema.String }) {
  override get message() {
    return `${this.source}: the ending names no known format; rename it to .jsonl, .json, .csv, .tsv or .parquet, or give a DuckDB query`
  }
}

/** No rows. */
export class EmptyDataset extends Schema.TaggedError<EmptyDataset>()("EmptyDataset", {
  source: Schema.String,
  wanted: Schema.String
}) {
  override get message() {
    return `${this.source}: no rows; at least one ${this.wanted} is needed`
  }
}

/** No layout of columns that is understood. */
export class MissingColumn extends Schema.TaggedError<MissingColumn>()("MissingColumn", {
  source: Schema.String,
  place: Schema.String,
  wanted: Schema.String,
  missing: Schema.Array(Schema.String),
  found: Schema.Array(Schema.String)
}) {
  override get message() {
    const names = (list: ReadonlyArray<string>) =>
      list.length === 0 ? "none" : list.map((name) => `"${name}"`).join(", ")
    return `${this.source}, ${this.place}: ${names(this.missing)} missing for a ${this.wanted}; found ${names(this.found)}. Rename the columns, or select them by a DuckDB query`
  }
}

/** A row that is no record. */
export class BadRow extends Schema.TaggedError<BadRow>()("BadRow", {
  source: Schema.String,
  place: Schema.String,
  field: Schema.optionalKey(Schema.String),
  detail: Schema.String
}) {
  override get message() {
    const field = this.field === undefined ? "" : `, field "${this.field}"`
    return `${this.source}, ${this.place}${field}: ${this.detail}`
  }
}

export const DataReason = Schema.Union([SourceUnreadable, UnknownFormat, EmptyDataset, MissingColumn, BadRow])
export type DataReason = typeof DataReason.Type

export class DataError extends Schema.TaggedError<DataError>()("DataError", { reason: DataReason }) {
  override get message() {
    return this.reason.message
  }
}
