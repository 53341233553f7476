/** Loops, and what keeps operations in their place. */
import { fixed, type Lower } from "../Lowering.ts"
import { typeOf, type Value } from "../Module.ts"

export const loop: Lower<"loop"> = (
  { body, carried, endsEarly = false, reverse, scanned, trips },
  inputs,
  { body: write, module }
) => {
  const count = fixed(trips)
  const start = inputs.slice(0, carried)
  const slices = inputs.slice(carried, carried + scanned)
  const rest = inputs.slice(carried + scanned)
  const stacks = body.results
    .slice(carried)
    .map(({ dtype, shape }) => module.splat(0, dtype, [count, ...shape.map(fixed)]))
  if (count === 0) return [...start, ...stacks]
  const going = endsEarly && carried > 0 ? (state: ReadonlyArray<Value>) => state[0]! : undefined
  const step = (index: Value, state: ReadonlyArray<Value>) => {
    const at = reverse ? module.same("subtract", module.splat(count - 1, "i32"), index) : index
    const results = write(body, [at, ...state.slice(0, carried), ...slices.map((x) => module.sliceAt(x, at)), ...rest])
    const stacked = state.slice(carried).map((all, i) => module.updateAt(all, results[carried + i]!, at))
    return [...results.slice(0, carried), ...stacked]
  }
  return module.repeat(count, [...start, ...stacks], step, going)
}

export const barrier: Lower<"barrier"> = (_, inputs, { module }) => {
  if (inputs.length === 0) return []
  const result = module.fresh()
  const names = inputs.map(({ name }) => name).join(", ")
  const count = inputs.length > 1 ? `:${inputs.length}` : ""
  module.line(`${result}${count} = stablehlo.optimization_barrier ${names} : ${inputs.map(typeOf).join(", ")}`)
  return inputs.map((x, i): Value => ({ ...x, name: inputs.length > 1 ? `${result}#${i}` : result }))
}
