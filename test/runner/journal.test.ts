import { appendFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { newId } from "../../src/runner/ids.ts"
import { lastLine, openJournal, readJournal } from "../../src/runner/journal.ts"
import { assertJson, nonFinite } from "../../src/runner/nonFinite.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("journal")

describe("a journal", () => {
  it("says at which byte each line starts, in memory or not, whatever the letters", () => {
    const path = join(fresh(), "j.ndjson")
    const journal = openJournal(path, { fresh: true })
    const texts = ["a", "ä", "日本", '😀\n"', "x".repeat(70_000), ""]
    const offsets = texts.map((text) => journal.append({ t: "event", text }))
    const length = journal.length()
    journal.close()
    assert.strictEqual(readFileSync(path).length, length)
    const { lines, next } = readJournal(path)
    assert.strictEqual(next, length)
    assert.deepStrictEqual(
      lines.map((l) => [l.offset, l.value["text"]]),
      texts.map((text, i) => [offsets[i], text])
    )
  })

  it("is read on from where the last reading ended, whatever is cut off", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ maxLength: 20 }), { maxLength: 8 }), fc.nat(400), (texts, cut) => {
        const path = join(fresh(), "j.ndjson")
        const whole = texts.map((text) => `${JSON.stringify({ text })}\n`)
        writeFileSync(path, whole.join(""))
        const size = Buffer.byteLength(whole.join(""))
        truncateSync(path, Math.min(cut, size))
        const first = readJournal(path)
        writeFileSync(path, whole.join(""))
        const rest = readJournal(path, first.next)
        assert.deepStrictEqual(
          [...first.lines, ...rest.lines].map((l) => l.value["text"]),
          texts
        )
        assert.strictEqual(rest.next, size)
      }),
      { numRuns: 40 }
    )
  })

  it("is cut back to whole lines before it goes on, skips what is no object, and needs no file to be read", () => {
    const path = join(fresh(), "j.ndjson")
    assert.deepStrictEqual(readJournal(path), { lines: [], next: 0 })
    assert.isUndefined(lastLine(path))
    const journal = openJournal(path)
    journal.append({ n: 1 })
    journal.close()
    appendFileSync(path, '{"n":2,"torn')
    assert.deepStrictEqual(lastLine(path), { n: 1 })
    const again = openJournal(path)
    assert.strictEqual(again.append({ n: 3 }), 8)
    again.close()
    appendFileSync(path, `${"\0".repeat(30)}\n[4]\n{"n":5}\n`)
    assert.deepStrictEqual(
      readJournal(path).lines.map((l) => l.value["n"]),
      [1, 3, 5]
    )
    assert.deepStrictEqual(lastLine(path), { n: 5 })
  })

  it("finds the last line however long it is", () => {
    const path = join(fresh(), "j.ndjson")
    writeFileSync(path, `{"n":1}\n{"long":"${"y".repeat(100_000)}"}\n{"torn`)
    assert.strictEqual(String(lastLine(path)?.["long"]).length, 100_000)
  })

  it("is not begun twice", () => {
    const path = join(fresh(), "j.ndjson")
    openJournal(path, { fresh: true }).close()
    assert.throws(() => openJournal(path, { fresh: true }), /EEXIST/)
  })
})

describe("numbers that JSON has not", () => {
  it("are found with their place", () => {
    const rows = [
      { name: "a", value: 1 },
      { name: "b", value: Number.NaN }
    ]
    assert.deepStrictEqual(nonFinite({ rows, best: Number.NEGATIVE_INFINITY, of: null, text: "NaN" }), [
      { path: "rows.1.value", value: "NaN" },
      { path: "best", value: "-Infinity" }
    ])
    assert.throws(() => assertJson({ a: { b: Infinity } }, "the state"), "the state: a.b is Infinity")
    assert.doesNotThrow(() => assertJson({ a: [1, null, "x"] }, "the state"))
  })
})

describe("ids", () => {
  it("sort by time as text", () => {
    const times = [0, 1, Date.UTC(2026, 10, 21), 36 ** 8 - 1, 36 ** 8, Date.UTC(5000, 0)]
    const ids = times.map(newId)
    assert.deepStrictEqual([...ids].sort(), ids)
    assert.match(ids[2] ?? "", /^[0-9a-z]{9}-[0-9a-z]{12}$/)
  })
})
