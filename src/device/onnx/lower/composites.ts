/** Composites that the runtime has a fused operator for. What is not here is lowered through its definition. */

import type { CompositeOp, Tensor } from "../../../tensor/Tensor.ts"
import type { Lowering } from "../Lowering.ts"

/** Lowers a composite to fused operators and says whether it could. */
export const lowerComposite = (
  _op: CompositeOp,
  _inputs: ReadonlyArray<Tensor>,
  _outputs: ReadonlyArray<Tensor>,
  _to: Lowering
): boolean => false
