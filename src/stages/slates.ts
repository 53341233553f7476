/**
 * Logged slates of the synthetic world: responses seen together under a prompt, drawn by a known behaviour policy, with
 * votes of latent groups of people who look less at later places (`world/slates.ts`). Everything that could have been said
 * is in the record, so the value of any policy can be enumerated.
 *
 * `equalVotes` is the control: the training slates with everybody's votes equal.
 */
import { Effect, Schema } from "effect"
import { LoggedSlates, WorldFolder } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { domainOf, equalVotes, slateRecords } from "../world/slates.ts"
import type { WorldSituation } from "../world/world.ts"
import { readWorld } from "./world.ts"

export const SlatesParams = Param.struct({
  prompts: Param.int(0, "training situations that are logged; 0: all", { min: 0 }),
  slatesPerPrompt: Param.int(1, "slates of a situation", { min: 1 }),
  slateSize: Param.int(4, "responses of a slate", { min: 1 }),
  poolSize: Param.int(8, "answers that the behaviour policy may give to a situation", { min: 1 }),
  mostLines: Param.int(2, "most lines of such an answer, each number from 1 as likely; a quarter have a false one", {
    min: 1
  }),
  replacement: Param.boolean(true, "independent draws; false: no answer twice in a slate, as plackett-luce supposes"),
  voters: Param.int(20, "people who vote on a slate", { min: 1 }),
  positionBias: Param.number(0.85, "probability of looking one place further down; 1: no bias", { above: 0, max: 1 }),
  overlap: Param.number(0.5, "how much the world's own target policy follows the behaviour policy; 1: they are equal", {
    min: 0,
    max: 1
  }),
  domains: Param.int(1, "blocks of actors that the world is cut into", { min: 1, max: 12 }),
  domain: Param.int(0, "which of them the slates are of, from 0", { min: 0 })
})

export class NoSlates extends Schema.TaggedError<NoSlates>()("NoSlates", { detail: Schema.String }) {
  override get message() {
    return `slates: ${this.detail}`
  }
}

export const slates = Stage.make("slates", {
  module: import.meta.url,
  version: 1,
  params: SlatesParams,
  inputs: { world: WorldFolder },
  outputs: { train: LoggedSlates, equalVotes: LoggedSlates, development: LoggedSlates, test: LoggedSlates },
  seeded: true,
  metrics: { "slates/prompts": "none", "slates/votes": "none", "slates/unvoted": "none", "slates/value": "none" },
  run: Effect.fn("stage.slates")(function* ({ inputs, outputs, params, seed }) {
    const task = yield* Task
    const world = yield* readWorld(inputs.world.dir)
    const { domain, domains, prompts, slatesPerPrompt, ...settings } = params
    if (domain >= domains) {
      return yield* new NoSlates({
        detail: `there is no domain ${domain} among \`domains: ${domains}\`; they count from 0`
      })
    }
    if (!settings.replacement && settings.slateSize > settings.poolSize) {
      return yield* new NoSlates({
        detail: `\`slateSize: ${settings.slateSize}\` answers without replacement need a \`poolSize\` of as many, not ${settings.poolSize}`
      })
    }
    const of = (split: ReadonlyArray<WorldSituation>) =>
      split.filter((situation) => domainOf(situation, domains) === domain)
    const records = (situations: ReadonlyArray<WorldSituation>) =>
      slateRecords(world, seed, situations, slatesPerPrompt, settings, (one) => `domain ${domainOf(one, domains)}`)
    const all = of(world.splits.train)
    const situations = prompts === 0 ? all : all.slice(0, prompts)
    const train = records(situations)
    if (train.length === 0) return yield* new NoSlates({ detail: `no training situation is of domain ${domain}` })
    yield* outputs.train.write(train)
    yield* outputs.equalVotes.write(equalVotes(train))
    yield* outputs.development.write(records(of(world.splits.development)))
    yield* outputs.test.write(records(of(world.splits.test)))
    const totals = train.map(({ responses }) => responses.reduce((sum, { votes = 0 }) => sum + votes, 0))
    const values = train.map(({ truth }) =>
      truth!.pool.reduce(
        (sum, { approvals, logprob }) =>
          sum + Math.exp(logprob) * approvals.reduce((all, p, g) => all + truth!.shares[g]! * p, 0),
        0
      )
    )
    const mean = (list: ReadonlyArray<number>) => list.reduce((sum, x) => sum + x, 0) / list.length
    yield* task.metrics(0, {
      "slates/prompts": situations.length,
      "slates/votes": mean(totals),
      "slates/unvoted": totals.filter((total) => total === 0).length / totals.length,
      "slates/value": mean(values)
    })
  })
})
