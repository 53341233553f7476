import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { type CsvRecord, csvRecords } from "../../src/data/csv.ts"

const read = async (chunks: ReadonlyArray<string>, delimiter: "," | "\t" = ",") => {
  const records: Array<CsvRecord> = []
  for await (const record of csvRecords(chunks, { delimiter, quotes: delimiter === "," })) records.push(record)
  return records
}

const quote = (cell: string) => `"${cell.replaceAll('"', '""')}"`

describe("csv", () => {
  test("quoted cells hold delimiters, breaks and quotes; lines are counted through them", async () => {
    expect(await read(['a,b\r\n"1,\n2","say ""x"""\r\n\r\n3,\r\n'])).toEqual([
      { line: 1, cells: ["a", "b"] },
      { line: 2, cells: ["1,\n2", 'say "x"'] },
      { line: 5, cells: ["3", ""] }
    ])
  })

  test("a byte-order mark goes; the last line needs no break; tabs need no quotes", async () => {
    expect(await read(["\uFEFFa,b\n1,2"])).toEqual([
      { line: 1, cells: ["a", "b"] },
      { line: 2, cells: ["1", "2"] }
    ])
    expect(await read(['a\t"b\n'], "\t")).toEqual([{ line: 1, cells: ["a", '"b'] }])
    expect(await read([""])).toEqual([])
  })

  test("an open quote and text after a closing one are faults with their line", async () => {
    await expect(read(['a\n"b\nc'])).rejects.toMatchObject({
      line: 2,
      message: expect.stringContaining("never closed")
    })
    await expect(read(['a\n"b"c'])).rejects.toMatchObject({ line: 2 })
  })

  test("writing then reading is the identity, wherever the text is cut into chunks", async () => {
    const cell = fc.string({ unit: fc.constantFrom("a", ",", '"', "\n", "\r", " ", "é") })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(cell, { minLength: 2, maxLength: 3 }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 5 }),
        async (rows, size) => {
          const written = rows.map((cells) => cells.map(quote).join(",")).join("\r\n")
          const chunks = written.match(new RegExp(`.{1,${size}}`, "gs")) ?? []
          expect((await read(chunks)).map(({ cells }) => cells)).toEqual(rows)
        }
      )
    )
  })
})
