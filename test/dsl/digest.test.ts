/** Code digests: what changes them and what does not. */
import { rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { codeManifests } from "../../src/dsl/digest.ts"
import { folder } from "./support.ts"

/** A user's package: a stage `a` that reaches most of it in every way there is, and a stage `z` that reaches little. */
const lab = () =>
  folder({
    "package.json": JSON.stringify({
      name: "lab",
      version: "0.1.0",
      type: "module",
      exports: { "./*": "./src/*.ts" },
      imports: { "#deep": { node: "./src/deep.ts" } }
    }),
    "src/a.ts": `import { b } from "./b.ts"
import type { T } from "./types.ts"
import { type U } from "./side.ts"
import "lab/self"
import { deep } from "#deep"
import { gone } from "dep/sub"
import { x } from "@scope/other"
import fs from "node:fs"
import path from "path"
import rows from "./rows.json" with { type: "json" }
// import "./commented.ts"
const text = "import './quoted.ts'"
export const a = async (n: number): Promise<T> => { await import("./late.ts"); return b }
`,
    "src/b.ts": "export const b = 1\nexport * from './re.ts'\n",
    "src/re.ts": "export const re = 1\n",
    "src/types.ts": "export type T = number\n",
    "src/side.ts": "export type U = number\nexport const effect = 1\n",
    "src/self.ts": "export const self = 1\n",
    "src/deep.ts": "export const deep = 1\n",
    "src/late.ts": "import { b } from './b.ts'\nexport const late = b\n",
    "src/rows.json": "[1]\n",
    "src/commented.ts": "export const c = 1\n",
    "src/quoted.ts": "export const q = 1\n",
    "src/part.ts": "export const part = 1\n",
    "src/z.ts": "import { re } from './re.ts'\nexport const z = re\n",
    "node_modules/dep/package.json": JSON.stringify({ name: "dep", version: "2.0.0" }),
    "node_modules/@scope/other/package.json": JSON.stringify({ name: "@scope/other", version: "3.1.0" })
  })

const stage = (dir: string, name: string, parts: ReadonlyArray<string> = []) => ({
  module: new URL(`file://${join(dir, "src", name)}`).href,
  parts: parts.map((part) => join(dir, "src", part))
})
const both = async (dir: string) => (await codeManifests([stage(dir, "a.ts"), stage(dir, "z.ts")])).map((m) => m.digest)

describe("a manifest", () => {
  it("names what a stage can reach in its package, and outside packages by version", async () => {
    const dir = lab()
    const [a, z, withPart] = await codeManifests([
      stage(dir, "a.ts"),
      stage(dir, "z.ts"),
      stage(dir, "z.ts", ["part.ts"])
    ])
    expect(Object.keys(a!.files)).toEqual(
      ["a.ts", "b.ts", "deep.ts", "late.ts", "re.ts", "rows.json", "self.ts", "side.ts"].map((f) => `lab/src/${f}`)
    )
    expect(a!.packages).toEqual({ "@scope/other": "3.1.0", dep: "2.0.0" })
    expect(Object.keys(z!.files)).toEqual(["lab/src/re.ts", "lab/src/z.ts"])
    expect(Object.keys(withPart!.files)).toContain("lab/src/part.ts")
    expect(new Set([a!.digest, z!.digest, withPart!.digest]).size).toBe(3)
  })

  it("is the same wherever the package lies", async () => {
    expect(await both(lab())).toEqual(await both(lab()))
  })
})

describe("a digest", () => {
  const edits: ReadonlyArray<
    readonly [what: string, file: string, text: string, changes: readonly [a: boolean, z: boolean]]
  > = [
    [
      "a comment",
      "src/b.ts",
      "// new\nexport const b /* here */ = 1\n\n\nexport * from './re.ts' // there\n",
      [false, false]
    ],
    [
      "types and layout",
      "src/b.ts",
      'export const b: number =\n  1;\ntype Q = string\nexport * from "./re.ts"\n',
      [false, false]
    ],
    [
      "a probe in a file that one stage reaches",
      "src/b.ts",
      "export const b = 1\nexport * from './re.ts'\nexport const probe = 1\n",
      [true, false]
    ],
    ["a probe in a file that both reach", "src/re.ts", "export const re = 1\nexport const probe = 1\n", [true, true]],
    [
      "a string that looks like a comment",
      "src/b.ts",
      "export const b = '// 1'\nexport * from './re.ts'\n",
      [true, false]
    ],
    [
      "a file behind a dynamic import",
      "src/late.ts",
      "import { b } from './b.ts'\nexport const late = b + 1\n",
      [true, false]
    ],
    ["imported JSON", "src/rows.json", "[2]\n", [true, false]],
    [
      "a file that only types come from",
      "src/types.ts",
      "export type T = string\nexport const no = 1\n",
      [false, false]
    ],
    ["a file that is named in a comment", "src/commented.ts", "export const c = 2\n", [false, false]],
    ["a file that is named in a string", "src/quoted.ts", "export const q = 2\n", [false, false]],
    [
      "another version of a package",
      "node_modules/dep/package.json",
      JSON.stringify({ name: "dep", version: "2.0.1" }),
      [true, false]
    ]
  ]
  it.each(edits)("%s", async (_, file, text, changes) => {
    const dir = lab()
    const before = await both(dir)
    const other = lab()
    writeFileSync(join(other, file), text)
    const after = await both(other)
    expect([after[0] !== before[0], after[1] !== before[1]]).toEqual(changes)
  })

  it("of code that cannot be read says which file", async () => {
    const dir = lab()
    writeFileSync(join(dir, "src/b.ts"), "export const = 1\n")
    await expect(both(dir)).rejects.toThrow(/b\.ts/)
    rmSync(join(dir, "src/a.ts"))
    await expect(both(dir)).rejects.toThrow(/cannot read the code in .*a\.ts/)
  })
})
