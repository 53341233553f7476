/** The house rules that a machine can hold: dependencies point one way, maths is pure, files are of a readable size. */
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { parse } from "yaml"
import { areaOf, importsOf, importsUnder, root } from "./support/imports.ts"

/** What each area may import, itself aside. An area that is not here may import nothing of the project. */
const may: Readonly<Record<string, ReadonlyArray<string>>> = {
  tensor: [],
  objectives: ["tensor"],
  rewards: [],
  metrics: ["rewards"],
  ope: ["metrics"],
  data: [],
  artifact: ["data"],
  device: ["tensor"],
  // The numeric class of a device is part of keys.
  dsl: ["artifact", "device"],
  models: ["tensor", "device", "objectives", "data"],
  world: ["data", "device", "rewards", "models", "metrics", "dsl"],
  judge: ["data", "dsl"],
  stages: [
    "objectives",
    "rewards",
    "metrics",
    "ope",
    "models",
    "data",
    "world",
    "judge",
    "artifact",
    "dsl",
    "device",
    "tensor"
  ],
  pipelines: ["stages", "rewards", "objectives", "dsl", "artifact", "models", "data", "world"],
  runner: ["dsl", "artifact", "device"],
  // It implements the runner's `Indexes`; what it asks and what is shown of it know each other.
  warehouse: ["runner", "dsl", "metrics", "report"],
  report: ["metrics", "warehouse"],
  cli: ["runner", "dsl", "warehouse", "report", "device", "bench"],
  "main.ts": ["cli"]
}

const imports = importsUnder("src", "pipelines")
const inside = imports.filter((i) => !i.outside && i.to.endsWith(".ts"))
const show = (i: { readonly from: string; readonly to: string }) => `${i.from} imports ${i.to}`

describe("dependencies", () => {
  it("point the way that the table says", () => {
    const wrong = inside.filter((i) => {
      const [a, b] = [areaOf(i.from), areaOf(i.to)]
      return a !== b && !(may[a] ?? []).includes(b)
    })
    expect(wrong.map(show)).toEqual([])
  })

  it("lead to files that exist, spelled with their ending", () => {
    const files = new Set(globSync(["src/**/*", "pipelines/**/*", "bench/**/*", "package.json"], { cwd: root }))
    expect(imports.filter((i) => !i.outside && !files.has(i.to)).map(show)).toEqual([])
  })

  it("go round in no circle of files, types aside (tensor: operations and their derivatives know each other)", () => {
    const uses = new Map<string, Array<string>>()
    for (const i of inside) {
      if (!i.typeOnly && !i.dynamic && areaOf(i.from) !== "tensor")
        uses.set(i.from, [...(uses.get(i.from) ?? []), i.to])
    }
    const done = new Set<string>()
    const circles: Array<string> = []
    const visit = (file: string, path: ReadonlyArray<string>): void => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" -> "))
      else if (!done.has(file)) {
        for (const next of uses.get(file) ?? []) visit(next, [...path, file])
        done.add(file)
      }
    }
    for (const file of uses.keys()) visit(file, [])
    expect(circles).toEqual([])
  })
})

describe("pure areas", () => {
  const pure = ["tensor", "objectives", "metrics", "ope", "rewards"]

  it.each(pure)("%s does no I/O and holds no state of the machine", (area) => {
    const wrong = imports.filter((i) => areaOf(i.from) === area && i.outside && i.to !== "effect")
    expect(wrong.map(show)).toEqual([])
  })

  it("know no Effect; the settings of rewards are Schemas", () => {
    const effects = imports.filter((i) => pure.includes(areaOf(i.from)) && i.to === "effect" && !i.typeOnly)
    const wrong = effects.filter((i) => areaOf(i.from) !== "rewards" || i.names.some((name) => name !== "Schema"))
    expect(wrong.map(show)).toEqual([])
  })

  it("never ask for the time or for chance", () => {
    const texts = globSync(`src/{${[...pure, "models", "world", "data"].join(",")}}/**/*.ts`, { cwd: root })
    const wrong = texts.filter((file) =>
      /\b(Date\.now|Math\.random|new Date\(\))/.test(readFileSync(join(root, file), "utf8"))
    )
    expect(wrong).toEqual([])
  })
})

it("loads the command's parts late: main.ts starts without runner, warehouse, device or dsl", () => {
  const seen = new Set<string>()
  const visit = (file: string): void => {
    if (seen.has(file)) return
    seen.add(file)
    for (const i of inside) if (i.from === file && !i.typeOnly && !i.dynamic) visit(i.to)
  }
  visit("src/main.ts")
  expect([...seen].filter((file) => !["cli", "main.ts"].includes(areaOf(file)))).toEqual([])
})

it("has no barrels and no drawers of odds and ends", () => {
  const files = globSync(["src/**/*.ts", "pipelines/**/*.ts"], { cwd: root })
  expect(files.filter((file) => /(^|\/)(index|utils?|helpers?|common|misc|manager)\.ts$/.test(file))).toEqual([])
})

it("has files that a person can read at a sitting (250 lines are the aim, over 400 need a reason)", () => {
  const long = globSync(["src/**/*.ts", "pipelines/**/*.ts"], { cwd: root })
    .map((file) => ({ file, lines: readFileSync(join(root, file), "utf8").split("\n").length - 1 }))
    .filter(({ lines }) => lines > 450)
  expect(long).toEqual([])
})

it("sees imports as they are written", () => {
  const text = `
import { Effect, type Schema } from "effect"
import type { A } from "../a.ts"
import { type B } from "./b.ts"
export { c } from "overtone/dsl/plan"
const late = () => import("../d.ts")
// import { nothing } from "nowhere"
import {
  e,
  f as g
} from "../../pipelines/e.ts"
`
  expect(importsOf("src/x/y.ts", text).map((i) => [i.to, i.typeOnly, i.dynamic, i.names.join()])).toEqual([
    ["effect", false, false, "Effect"],
    ["src/a.ts", true, false, ""],
    ["src/x/b.ts", true, false, ""],
    ["src/dsl/plan.ts", false, false, "c"],
    ["src/d.ts", false, true, ""],
    ["pipelines/e.ts", false, false, "e,f"]
  ])
})

it("is one package to pnpm: with those under test/ it would install before every command", () => {
  const { packages } = parse(readFileSync(join(root, "pnpm-workspace.yaml"), "utf8"))
  expect(packages).toEqual(["."])
})
