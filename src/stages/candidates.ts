/**
 * Slates out of a policy's own answers, voted on by the world's people (POPE's RQ1, arXiv 2509.19333, section 5.1: "several
 * candidate replies per instruction with the policy itself"; who votes there is not said, so the votes are reconstructed).
 * Answers to one prompt are a slate, in the order drawn; `behaviour` scores them by the policy that gave them.
 */
import { Effect, Schema } from "effect"
import { Completions, LoggedSlates, WorldFolder } from "../artifact/kinds.ts"
import type { LoggedResponse, LoggedSlate } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { draws } from "../world/draws.ts"
import { makeChecker } from "../world/exact.ts"
import { makeGroups } from "../world/groups.ts"
import { approvalsOfText } from "../world/people.ts"
import { castVotes, equalVotes } from "../world/slates.ts"
import { readWorld } from "./world.ts"

export const CandidatesParams = Param.struct({
  voters: Param.int(20, "people who vote on a slate", { min: 1 }),
  positionBias: Param.number(1, "probability of looking one place further down; 1: no bias", { above: 0, max: 1 })
})

export class NoCandidates extends Schema.TaggedError<NoCandidates>()("NoCandidates", { detail: Schema.String }) {
  override get message() {
    return `candidates: ${this.detail}`
  }
}

export const candidates = Stage.make("candidates", {
  module: import.meta.url,
  version: 1,
  params: CandidatesParams,
  inputs: { completions: Completions, world: WorldFolder },
  outputs: { slates: LoggedSlates, equalVotes: LoggedSlates },
  seeded: true,
  metrics: {
    "candidates/slates": "none",
    "candidates/empty": "lower",
    "candidates/distinct": "none",
    "candidates/approval": "higher"
  },
  run: Effect.fn("stage.candidates")(function* ({ inputs, outputs, params, seed }) {
    const task = yield* Task
    const world = yield* readWorld(inputs.world.dir)
    const groups = makeGroups(world)
    const checker = makeChecker(world)
    const situations = new Map(Object.values(world.splits).flatMap((split) => split.map((one) => [one.id, one])))
    const answers = Map.groupBy(yield* inputs.completions.rows, ({ id }) => id)
    const slates: Array<LoggedSlate> = []
    let [empty, distinct, approval, responses] = [0, 0, 0, 0]
    for (const [promptId, all] of answers) {
      const situation = situations.get(promptId)
      if (situation === undefined) {
        return yield* new NoCandidates({ detail: `${promptId} is no situation of this world` })
      }
      // An answer that ends at once cannot be told from one that was never given.
      const said = all.filter(({ text }) => text.trim() !== "")
      empty += all.length - said.length
      const approvals = said.map(({ text }) => approvalsOfText(checker, groups, text, situation))
      const votes = castVotes(groups, approvals, params, draws(seed, "candidates", "votes", promptId))
      const [first, ...rest] = said.map(
        ({ text }, k): LoggedResponse => ({
          text,
          votes: votes[k]!,
          exposure: params.voters * params.positionBias ** k,
          relevance: groups.reduce((sum, { share }, g) => sum + share * approvals[k]![g]!, 0)
        })
      )
      if (first === undefined) continue
      const { prompt } = situation
      slates.push({ id: promptId, promptId, prompt, responses: [first, ...rest], source: "candidates" })
      distinct += new Set(said.map(({ text }) => text)).size / said.length
      responses += said.length
      approval += [first, ...rest].reduce((sum, { relevance }) => sum + relevance!, 0)
    }
    if (slates.length === 0) return yield* new NoCandidates({ detail: "there are no answers that say anything" })
    yield* outputs.slates.write(slates)
    yield* outputs.equalVotes.write(equalVotes(slates))
    yield* task.metrics(0, {
      "candidates/slates": slates.length,
      "candidates/empty": empty,
      "candidates/distinct": distinct / slates.length,
      "candidates/approval": approval / responses
    })
  })
})
