/** The `Device` of a worker, by the numeric class that its task asked for. Loaded only where a stage needs one. */
import { Layer } from "effect"
import type { NumericClass } from "../dsl/numericClass.ts"

/** @param event says in the journal which device it was. */
export const deviceLayer = async (
  asked: NumericClass | null,
  _event: (name: string, detail: unknown) => void
): Promise<Layer.Layer<never>> => {
  throw new Error(`no device for ${asked === null ? "a task without a numeric class" : asked.provider}`)
}
void Layer
