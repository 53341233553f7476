/** From a file to its plan against a warehouse: what `run` and `plan` begin with. */
import { existsSync, statSync } from "node:fs"
import { Effect } from "effect"
import { loadExperiment } from "../dsl/load.ts"
import { plan as planExperiment } from "../dsl/plan.ts"
import { warehouseLookup } from "../runner/lookup.ts"
import type { Provider } from "./executor.ts"
import { usage } from "./failure.ts"
import { reported } from "./invalid.ts"

export interface Asked {
  /** Absolute. */
  readonly file: string
  /** `key=value`, as given. */
  readonly set: ReadonlyArray<string>
  readonly warehouse: string
  readonly provider: Provider
  readonly json: boolean
}

/** The checked experiment and its plan. Reads the warehouse, where there is one, and creates nothing. */
export const planned = Effect.fn("exp.planned")(function* ({ file, set, warehouse, provider, json }: Asked) {
  if (!existsSync(file)) return yield* usage(`there is no file ${file}`)
  if (statSync(file).isDirectory()) return yield* usage(`${file} is a folder: name an experiment's YAML file`)
  const experiment = yield* loadExperiment(file, { set }).pipe(Effect.catchTag("InvalidExperiment", reported(json)))
  const { deterministic, dtype } = experiment.compute
  if (dtype !== "f32" && !provider.startsWith("xla:")) {
    return yield* usage(
      `compute.dtype ${dtype}: the device ${provider} computes in f32 only; leave \`dtype\` out, or name another device`
    )
  }
  if (deterministic && provider === "webgpu") {
    return yield* usage(
      "compute.deterministic: the device webgpu adds up in the order in which its threads come; leave it out, or name another device"
    )
  }
  const lookup = warehouseLookup(warehouse, experiment.name)
  return { experiment, plan: yield* planExperiment(experiment, lookup, { provider }) }
})
