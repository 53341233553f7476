import { expect, it } from "vitest"
import { WarehouseError } from "../../src/warehouse/errors.ts"

it("a full disk behind the database comes with its remedy, other faults as they are", () => {
  const message = (detail: string) => new WarehouseError({ reason: "database", file: "live.duckdb", detail }).message
  const full = 'Failed to commit: Could not write file "live.duckdb.wal": No space left on device'
  expect(message(full)).toBe(
    `live.duckdb: ${full}; free some space and run the same command again: nothing that was finished is lost`
  )
  expect(message("Catalog Error")).toBe("live.duckdb: Catalog Error")
})
