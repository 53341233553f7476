/**
 * Counts over public data in `../shared/data/overton`; skipped, saying so, where that folder is absent.
 * Expected numbers: the strata hold 300 situations of exactly 5 and 7 perspectives; the JSON files were counted with
 * Python's `json` (rows, and the sum of the lengths of `vrd`).
 */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import { completionReader, nliReader, type RecordReader, readRecords, situationReader } from "../../src/data/readers.ts"

const data = fileURLToPath(new URL("../../../shared/data/", import.meta.url))
const present = existsSync(data)
const read = <A>(reader: RecordReader<A>, path: string) =>
  Effect.runPromise(readRecords(reader, { path: `${data}${path}` }))

describe.skipIf(!present)(present ? "published data" : `published data: skipped, no ${data}`, () => {
  test.each([
    ["overton/op_v2_test_5p.csv", 300, 1500],
    ["overton/op_v2_test_7p.csv", 300, 2100],
    ["overton/modular_pluralism_outputs_5p.json", 300, 1500],
    ["overton/modular_pluralism_overton_small.json", 626, 4450],
    ["overton/vital_overton.json", 1649, 11952]
  ])("%s has %i situations and %i perspectives", async (path, rows, perspectives) => {
    const situations = await read(situationReader, path)
    expect(situations).toHaveLength(rows)
    expect(situations.reduce((sum, situation) => sum + situation.perspectives.length, 0)).toBe(perspectives)
  })

  test("the 5p stratum and Modular Pluralism's file of it hold the same perspectives", async () => {
    const csv = await read(situationReader, "overton/op_v2_test_5p.csv")
    const json = await read(situationReader, "overton/modular_pluralism_outputs_5p.json")
    const names = (rows: typeof csv) =>
      rows.map(({ prompt, perspectives }) => [prompt, perspectives.map(({ name }) => name)])
    expect(names(json)).toEqual(names(csv))
  })

  test("outputs of OP-GRPO and of Modular Pluralism have one row per situation", async () => {
    const situations = await read(situationReader, "overton/op_v2_test_5p.csv")
    for (const path of ["overton/op_grpo_outputs_5p.csv", "overton/modular_pluralism_outputs_5p.json"]) {
      const completions = await read(completionReader, path)
      expect(completions.map(({ prompt }) => prompt)).toEqual(situations.map(({ prompt }) => prompt))
      expect(completions.every(({ text }) => text.length > 0)).toBe(true)
    }
  })

  test("SICK's training part has 4,500 pairs", async () => {
    expect(await read(nliReader, "nli/sick_train.tsv")).toHaveLength(4500)
  })
})
