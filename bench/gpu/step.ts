/**
 * One step of parts a and b, in a process of its own: what it finds goes to a file, as it is found.
 *
 *   node bench/gpu/step.ts --name "0.5B sft" --device cuda --result FILE [--tiny]
 */
import { parseArgs } from "node:util"
import { Effect } from "effect"
import { dots, fused } from "./arithmetic.ts"
import { ceilings } from "./ceilings.ts"
import { donation, loading } from "./loading.ts"
import { decodeStep, logprobsStep, loraStep, sftStep } from "./models.ts"
import { writeWhole } from "./record.ts"
import type { Step } from "./Setting.ts"
import { shapeNames } from "./shapes.ts"

const { values } = parseArgs({
  options: {
    name: { type: "string", default: "" },
    device: { type: "string", default: "cuda" },
    result: { type: "string", default: "result.json" },
    tiny: { type: "boolean", default: false }
  }
})

const known: Readonly<Record<string, Step>> = {
  loading,
  donation,
  dots,
  ceilings,
  attention: fused,
  "0.5B logprobs": logprobsStep("0.5B"),
  "0.5B decode 64 f32": decodeStep("0.5B", 64, "f32"),
  // what the loop over layers that the device chooses for 0.5B costs or gains, and what it would for 3B
  "0.5B sft unrolled": sftStep("0.5B", "unrolled"),
  "0.5B lora unrolled": loraStep("0.5B", "unrolled"),
  "3B lora loop": loraStep("3B", "loop"),
  ...Object.fromEntries(
    shapeNames.flatMap(
      (shape): ReadonlyArray<readonly [string, Step]> => [
        [`${shape} sft`, sftStep(shape)],
        [`${shape} lora`, loraStep(shape)],
        [`${shape} decode 64`, decodeStep(shape, 64, "bf16")],
        [`${shape} decode 256`, decodeStep(shape, 256, "bf16")]
      ]
    )
  )
}

const step = known[values.name]
if (step === undefined) throw new Error(`there is no step ${values.name}; there are ${Object.keys(known).join(", ")}`)
const keep = (found: unknown) => writeWhole(values.result, JSON.stringify(found))
const setting = { device: values.device === "cpu" ? ("cpu" as const) : ("cuda" as const), tiny: values.tiny, keep }
keep(await Effect.runPromise(step(setting)))
