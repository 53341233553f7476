/** A pipeline whose one stage has a reward section as Overtone's own stages have it, and does nothing. */
import { Effect } from "effect"
import { Report } from "../../../src/artifact/kinds.ts"
import * as Pipeline from "../../../src/dsl/Pipeline.ts"
import * as Param from "../../../src/dsl/param.ts"
import * as Stage from "../../../src/dsl/Stage.ts"
import { coverage } from "../../../src/rewards/coverage.ts"
import { tag } from "../../../src/rewards/tag.ts"
import { rewardSchema } from "../../../src/stages/scoring.ts"

const rewarded = Stage.make("rewarded", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({ steps: Param.int(1, "steps"), reward: rewardSchema([coverage, tag]) }),
  inputs: {},
  outputs: { report: Report },
  run: () => Effect.void
})

export default Pipeline.make("own", { grpo: rewarded.params }, (p) => rewarded({}, p.grpo))
