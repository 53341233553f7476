import { join } from "node:path"
import { expect, test } from "vitest"
import { codeLines, sizes } from "../../bench/size.ts"

test("comments and blank lines do not count, code beside a comment does", () => {
  const text = `/** A head
 * of two lines. */
import { a } from "b" // why

// a note
const x = 1 /* in the middle */
/* one line */
/*
a block
*/
export { a, x }
`
  expect(codeLines(text)).toBe(3)
  expect(codeLines("")).toBe(0)
})

test("every objective, reward part, metric and stage is found by its name", () => {
  const found = sizes(join(import.meta.dirname, "../.."))
  const names = (kind: string) => found.filter((one) => one.kind === kind && !one.shared).map(({ name }) => name)
  expect(names("objective")).toEqual(expect.arrayContaining(["grpo", "sft", "kto", "contrastive", "classification"]))
  expect(names("objective").join(", ")).toMatch(/\bdpo, hinge, robustDpo, ipo\b/)
  expect(names("reward part").toSorted()).toEqual(expect.arrayContaining(["coverage", "format", "tag", "uniqueness"]))
  expect(names("metric")).toEqual(expect.arrayContaining(["pope", "bleu", "coverage"]))
  expect(names("stage")).toEqual(expect.arrayContaining(["evaluate", "grpo", "stratum, published"]))
  // What several share is told from what they are.
  for (const name of ["Objective", "policyGradient", "pairs"])
    expect(found.find(({ file }) => file === `src/objectives/${name}.ts`)).toMatchObject({ shared: true })
  for (const { file, lines } of found) expect(lines, file).toBeGreaterThan(0)
})
