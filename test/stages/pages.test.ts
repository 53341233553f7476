/** A stage's page in docs/stages names every knob with its default, and every metric and item; nothing that is not there. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { at, defaultOf, encodedAst, fileAt, keysOf, objects } from "../../src/dsl/paths.ts"
import type { AnyStage } from "../../src/dsl/Stage.ts"
import { basePolicy } from "../../src/stages/basePolicy.ts"
import { behaviour } from "../../src/stages/behaviour.ts"
import { bestOf } from "../../src/stages/bestOf.ts"
import { candidates } from "../../src/stages/candidates.ts"
import { dataset } from "../../src/stages/dataset.ts"
import { encoder } from "../../src/stages/encoder.ts"
import { estimator } from "../../src/stages/estimator.ts"
import { evaluate } from "../../src/stages/evaluate.ts"
import { evaluateOpe } from "../../src/stages/evaluateOpe.ts"
import { examples } from "../../src/stages/examples.ts"
import { generate } from "../../src/stages/generate.ts"
import { grpo } from "../../src/stages/grpo.ts"
import { ips } from "../../src/stages/ips.ts"
import { nli } from "../../src/stages/nli.ts"
import { preference } from "../../src/stages/preference.ts"
import { preferences } from "../../src/stages/preferences.ts"
import { published, stratum } from "../../src/stages/published.ts"
import { references } from "../../src/stages/references.ts"
import { responses } from "../../src/stages/responses.ts"
import { score } from "../../src/stages/score.ts"
import { sft } from "../../src/stages/sft.ts"
import { shuffle } from "../../src/stages/shuffle.ts"
import { amazon, slateFile } from "../../src/stages/slateFiles.ts"
import { slates } from "../../src/stages/slates.ts"
import { triplets } from "../../src/stages/triplets.ts"
import { world } from "../../src/stages/world.ts"
import { root } from "../support/imports.ts"

const pages: Readonly<Record<string, ReadonlyArray<AnyStage>>> = {
  "best-of": [bestOf],
  amazon: [amazon],
  behaviour: [responses, behaviour],
  candidates: [candidates],
  dataset: [dataset],
  encoder: [encoder],
  estimator: [estimator],
  evaluate: [evaluate],
  "evaluate-ope": [evaluateOpe],
  examples: [examples],
  generate: [generate],
  grpo: [grpo],
  ips: [ips],
  nli: [nli],
  policy: [basePolicy],
  preference: [preference],
  preferences: [preferences],
  published: [stratum, published],
  references: [references],
  score: [score],
  sft: [sft],
  shuffle: [shuffle],
  "slate-file": [slateFile],
  slates: [slates],
  triplets: [triplets],
  world: [world]
}

/** Every leaf of a stage's parameters, dotted, with its default as a page writes it. */
const knobsOf = (stage: AnyStage) => {
  const leaves = (ast: ReturnType<typeof encodedAst>, prefix: ReadonlyArray<string>): ReadonlyArray<[string, string]> =>
    keysOf(ast).flatMap((key) => {
      const inner = at(ast, [key])!
      const path = [...prefix, key]
      const value = defaultOf(inner) as string | number | { readonly path: string } | undefined
      // What is a plain value unless said otherwise (a weight, say, that may follow a schedule) is one knob.
      const section = objects(inner).length > 0 && fileAt(inner) === undefined && typeof value !== "number"
      if (section) return leaves(inner, path)
      const written =
        value === undefined
          ? ""
          : typeof value === "string"
            ? `\`${value}\``
            : fileAt(inner) !== undefined
              ? `\`${(value as { readonly path: string }).path}\``
              : JSON.stringify(value)
      return [[path.join("."), written] as [string, string]]
    })
  return leaves(encodedAst(stage.params), [])
}

describe.each(Object.entries(pages))("docs/stages/%s.md", (name, stages) => {
  const text = readFileSync(join(root, `docs/stages/${name}.md`), "utf8")
  const [, knobs = ""] = text.split("## Knobs")
  const rows = [...knobs.matchAll(/^\| `([\w.]+)` \| (.*?) ?\| .+ \|$/gm)].map(
    ([, knob, value]) => `${knob} = ${value}`
  )

  it("has a row for every knob, with its default, and no other", () => {
    const known = stages.flatMap((stage) =>
      knobsOf(stage).map(([knob, value]) => {
        // The variant of a choice has no default of its own.
        const shown = knob === "source" ? "`scratch`" : value
        return `${knob} = ${shown}`
      })
    )
    expect(rows.toSorted()).toEqual(known.toSorted())
  })

  it("names every metric and item", () => {
    for (const stage of stages) {
      for (const metric of [...Object.keys(stage.metrics), ...Object.keys(stage.items)])
        expect(text).toContain(`\`${metric}\``)
    }
  })

  it("says where it is from and which test holds it", () => {
    expect(text).toMatch(/Reference: /)
    expect(text).toMatch(/Tests:?\s+`test\//)
  })
})
