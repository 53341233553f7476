/** Pipelines' modules with every kind of fault, and `--set` of what cannot be set, through the command as a process. */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { freshFolder } from "../support/folders.ts"
import { root } from "../support/imports.ts"

const fresh = freshFolder("modules")

interface Problem {
  readonly file: string
  readonly line: number
  readonly path: string
  readonly message: string
  readonly hint: string | null
}

/** `exp plan`, with the problems that it tells scripts. */
const plan = (
  file: string,
  ...argv: ReadonlyArray<string>
): Promise<{ readonly code: unknown; readonly errors: ReadonlyArray<Problem>; readonly err: string }> =>
  new Promise((resolve) => {
    const words = [join(root, "src/main.ts"), "--warehouse", join(file, "..", "store"), "plan", file, "--json", ...argv]
    execFile(process.execPath, words, (error, out, err) =>
      resolve({ code: error === null ? 0 : error.code, errors: out === "" ? [] : JSON.parse(out).errors, err })
    )
  })

const pipelineModule = JSON.stringify(join(root, "src/dsl/Pipeline.ts"))

/** Each fault's module, the line that must be named (of that file), and words of message and hint. */
const faults: Readonly<Record<string, readonly [text: string, line: number | null, message: RegExp, hint: RegExp]>> = {
  throws: [
    "const settings: { readonly depth?: number } = {}\n\nexport default settings.depth!.toFixed()\n",
    3,
    /cannot be imported: Cannot read properties of undefined/,
    /itself threw: mend it there/
  ],
  none: ["export const nothing = 1\n", null, /has no default export$/, /write `export default Pipeline\.make/],
  named: [
    `import * as Pipeline from ${pipelineModule}\nexport const mine = Pipeline.make("mine", {}, () => ({}))\n`,
    null,
    /no default export, but a pipeline `mine`/,
    /write `export default mine`/
  ],
  other: [
    '\nexport default { name: "x" }\n',
    2,
    /the default export of .* is an object, no pipeline/,
    /Pipeline\.make/
  ],
  absent: [
    '// words\nimport { x } from "./no-such.ts"\nexport default x\n',
    2,
    /there is no file .*no-such\.ts, imported at/,
    /correct the import/
  ],
  packaged: [
    'import x from "no-such-package/deep"\nexport default x\n',
    1,
    /there is no package no-such-package, imported at/,
    /install it/
  ],
  unexported: [
    'import { nope } from "./none.ts"\nexport default nope\n',
    1,
    /does not provide an export named 'nope'/,
    /mend it there/
  ],
  syntax: ["const a = 1\nconst b = = 2\nexport default a\n", 2, /cannot be imported: Expression expected/, /mend it/],
  enum: ["\nenum A { b }\nexport default A\n", 2, /enum is not supported/, /types are stripped.*no enums/],
  builds: [
    `import * as Pipeline from ${pipelineModule}\nexport default Pipeline.make("mine", {}, () => {\n  throw new Error("no wiring")\n})\n`,
    3,
    /pipeline mine cannot be built: no wiring/,
    /mend the pipeline there/
  ],
  checks: [
    `import * as Pipeline from ${pipelineModule}\nconst check = () => {\n  throw new TypeError("odd")\n}\nexport default Pipeline.make("mine", {}, () => ({}), { check })\n`,
    3,
    /pipeline mine cannot check its parameters: odd/,
    /mend the pipeline there/
  ]
}

describe("a pipeline's module", () => {
  it("that cannot be used is told at the YAML's line, with its own line and a remedy; all at once, exit 3", async () => {
    const dir = fresh()
    mkdirSync(dir, { recursive: true })
    const names = Object.keys(faults)
    for (const name of names) writeFileSync(join(dir, `${name}.ts`), faults[name]![0])
    const file = join(dir, "x.yaml")
    writeFileSync(file, `name: x\narms:\n${names.map((name) => `  ${name}: { pipeline: ./${name}.ts }\n`).join("")}`)
    const { code, errors, err } = await plan(file)
    expect(err).toBe("")
    expect(code).toBe(3)
    expect(errors.map(({ path }) => path)).toEqual(names.map((name) => `arms.${name}.pipeline`))
    for (const [i, name] of names.entries()) {
      const [, line, message, hint] = faults[name]!
      expect(errors[i]!.line).toBe(3 + i)
      expect(errors[i]!.message).toMatch(message)
      expect(errors[i]!.message).toContain(join(dir, `${name}.ts${line === null ? "" : `:${line}`}`))
      expect(errors[i]!.hint).toMatch(hint)
    }
    expect(existsSync(join(dir, "store"))).toBe(false)
  })
})

describe("--set", () => {
  it("of what cannot be set names its number, its key and what to write; all at once, exit 3", async () => {
    const file = join(fresh(), "x.yaml")
    writeFileSync(file, `name: x\npipeline: ${JSON.stringify(join(root, "test/dsl/project/pipelines/op.ts"))}\n`)
    const faulty: ReadonlyArray<readonly [set: string, path: string, said: RegExp]> = [
      ["seeds=5", "seeds", /the pipeline has no parameter seeds.*seeds is set in the file only/],
      ["name=mine", "name", /the pipeline has no parameter name.*name is set in the file only/],
      ["nosuch.key=1", "nosuch.key", /the pipeline has no parameter nosuch/],
      ["grpo.nope=1", "grpo.nope", /the pipeline has no parameter grpo\.nope/],
      ["grpo.stesp=1", "grpo.stesp", /did you mean grpo\.steps\?/],
      ["params.grpo.steps=1", "params.grpo.steps", /leave `params\.` out: grpo\.steps/],
      ["x", "x", /"x" is no key=value.*write --set grpo\.steps=3/],
      ["=3", "", /"=3" is no key=value/],
      ["grpo.steps: 3", "grpo.steps: 3", /is no key=value.*write --set grpo\.steps=3/],
      ["grpo..steps=1", "grpo..steps", /no dotted key: a part of it is empty/],
      ["grpo.steps=[1", "grpo.steps", /not YAML/],
      ["grpo.steps={a: 1", "grpo.steps", /not YAML/],
      ["grpo.steps=", "grpo.steps", /expected a number; got nothing/],
      ["estimator=3", "estimator", /expected a section \(.*got 3/],
      ["grpo.groupSize=few", "grpo.groupSize", /expected a number; got few/]
    ]
    const { code, errors } = await plan(file, ...faulty.flatMap(([set]) => ["--set", set]))
    expect(code).toBe(3)
    for (const [i, [set, path, said]] of faulty.entries()) {
      const own = errors.filter(({ file, line }) => file === "--set" && line === i + 1)
      expect(own, `${set}: ${JSON.stringify(errors)}`).toHaveLength(1)
      expect(own[0]!.path).toBe(path)
      expect(`${own[0]!.message} | ${own[0]!.hint}`).toMatch(said)
    }
    expect(errors).toHaveLength(faulty.length)
  })
})
