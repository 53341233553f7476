import { describe, expect, it } from "vitest"
import { type Ran, tally } from "./summary.ts"

interface Result {
  readonly state: "passed" | "failed" | "skipped" | "pending"
  readonly errors?: ReadonlyArray<unknown>
}

const ran = (
  tests: Readonly<Record<string, Result & { readonly flaky?: boolean }>>,
  more: { readonly hooks?: Readonly<Record<string, unknown>>; readonly errors?: ReadonlyArray<unknown> } = {}
): Ran => {
  const { errors = [], hooks = {} } = more
  const bad =
    errors.length > 0 || Object.keys(hooks).length > 0 || Object.values(tests).some(({ state }) => state === "failed")
  return {
    moduleId: `${process.cwd()}/test/a.test.ts`,
    state: () => (bad ? "failed" : "passed"),
    errors: () => errors,
    children: {
      allTests: () =>
        Object.entries(tests).map(([fullName, { flaky = false, ...result }]) => ({
          fullName,
          result: () => result,
          diagnostic: () => ({ flaky })
        })),
      allSuites: () => Object.entries(hooks).map(([fullName, error]) => ({ fullName, errors: () => [error] }))
    }
  }
}

describe("the runner's last words", () => {
  it("count tests by result and say which needed a second try", () => {
    const file = ran({ a: { state: "passed" }, b: { state: "skipped" }, c: { state: "passed", flaky: true } })
    expect(tally([file, ran({ d: { state: "passed" } })], [])).toEqual({
      passed: 3,
      failed: 0,
      skipped: 1,
      said: ["passed at its second try: test/a.test.ts > c"]
    })
  })

  it("count as failed a test that did not end, a hook, a file that was not loaded, and an error outside any test", () => {
    const files = [
      ran({ a: { state: "failed", errors: [new Error("one\ntwo")] }, b: { state: "pending" } }),
      ran({ c: { state: "skipped" } }, { hooks: { group: new Error("hooked") } }),
      ran({}, { errors: [new Error("load")] })
    ]
    expect(tally(files, [new Error("loose")])).toEqual({
      passed: 0,
      failed: 5,
      skipped: 1,
      said: [
        "failed: outside any test: loose",
        "failed: test/a.test.ts > a: one",
        "failed: test/a.test.ts > b: it did not end",
        "failed: test/a.test.ts > group: hooked",
        "failed: test/a.test.ts: load"
      ]
    })
  })

  it("have words for whatever was thrown", () => {
    for (const [thrown, said] of [
      [undefined, "undefined"],
      ["text", "text"],
      [{ code: 3 }, '{"code":3}'],
      [{ message: {} }, "{}"]
    ] as const)
      expect(tally([ran({ a: { state: "failed", errors: [thrown] } })], []).said).toEqual([
        `failed: test/a.test.ts > a: ${said}`
      ])
  })
})
