/**
 * A supervisor in a process of its own, for tests that end it; it runs up to `walk`: `node supervise.ts ROOT PARAMS [duckdb]`. Prints the
 * run's events, one JSON object a line; exits with what `exp` would.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import { Indexes } from "../../src/runner/Index.ts"
import { select } from "../../src/runner/selection.ts"
import { run } from "../../src/runner/supervisor.ts"
import { fakeIndex, optionsOf, planOf } from "./counted.ts"

const [root = "", params = "{}", index] = process.argv.slice(2)
const { plan, wanted } = select(planOf(JSON.parse(params)), { only: "walk" })
const layer = index === "duckdb" ? (await import("../../src/warehouse/live.ts")).layer : fakeIndex(root).layer
const onEvent = (event: unknown): void => console.log(JSON.stringify(event))
NodeRuntime.runMain(
  run(plan, optionsOf(root, { onEvent, wanted })).pipe(
    Effect.provideServiceEffect(Indexes, Effect.provide(Indexes, layer)),
    Effect.catch((error) =>
      Effect.andThen(
        Effect.sync(() => console.error(error.message)),
        Effect.fail(error)
      )
    )
  ),
  { disableErrorReporting: true }
)
