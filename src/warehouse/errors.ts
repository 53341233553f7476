/**
 * What can go wrong between a run and its index. Three errors, because callers treat them differently: the warehouse is
 * somebody else's right now, the question cannot be answered as asked, or the index itself is damaged.
 */
import { Schema } from "effect"

/** Another process (or this one) holds the live database: there is one supervisor per warehouse at a time. */
export class WarehouseInUse extends Schema.TaggedError<WarehouseInUse>()("WarehouseInUse", {
  dir: Schema.String,
  /** The process that holds it, where the database knows. */
  pid: Schema.NullOr(Schema.Int)
}) {
  override get message() {
    const who = this.pid === null ? "another run" : `another run (process ${this.pid})`
    return `warehouse ${this.dir} is in use by ${who}: wait for it to end, stop it, or name another folder with --warehouse`
  }
}

/** A query that is no single reading statement, that does not parse, or that finds no database to read. */
export class QueryRefused extends Schema.TaggedError<QueryRefused>()("QueryRefused", {
  reason: Schema.Literals(["missing", "empty", "several", "writes", "access", "invalid"]),
  detail: Schema.String
}) {
  override get message() {
    return this.detail
  }
}

/** A journal that cannot be read as one, or a database that cannot be opened, migrated, written or published. */
export class WarehouseError extends Schema.TaggedError<WarehouseError>()("WarehouseError", {
  reason: Schema.Literals(["journal", "database", "migration", "publish"]),
  /** File at fault, relative to the warehouse folder where it lies in it. */
  file: Schema.String,
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    const full = /no space left on device|disk quota exceeded|out of disk space/i.test(this.detail)
    const remedy = full ? "; free some space and run the same command again: nothing that was finished is lost" : ""
    return `${this.file}: ${this.detail}${remedy}`
  }
}
