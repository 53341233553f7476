/** The numeric class of a provider's tasks, by the backend that computes for it: pure, for plans on any machine. */
import type { Compute, NumericClass } from "./numericClass.ts"
import { onnxNumericClass } from "./onnx/numericClass.ts"
import { xlaNumericClass } from "./xla/numericClass.ts"

export const numericClassOf = (compute: Compute, provider: string): NumericClass =>
  provider.startsWith("xla:") ? xlaNumericClass(compute, provider) : onnxNumericClass(compute, provider)
