/** The table of primitives: one row each; a missing row does not type-check. Rows live with their builders, by family. */
import { controlRows } from "./ops/control.ts"
import { dotRows } from "./ops/dot.ts"
import { elementwiseRows } from "./ops/elementwise.ts"
import { indexRows } from "./ops/indexing.ts"
import { leafRows } from "./ops/leaf.ts"
import { reduceRows } from "./ops/reduce.ts"
import { shapeRows } from "./ops/shape.ts"
import type { Kind, Primitive, PrimitiveOf, Row } from "./Tensor.ts"

export type Rows<K extends Kind = Kind> = { readonly [P in K]: Row<PrimitiveOf<P>> }

// The families use each other's builders, so the table is put together at its first use.
let table: Rows | undefined

export const ops = (): Rows =>
  (table ??= {
    ...leafRows,
    ...elementwiseRows,
    ...shapeRows,
    ...indexRows,
    ...dotRows,
    ...reduceRows,
    ...controlRows
  })

/** The row of an operation. */
export const rowOf = <O extends Primitive>(op: O): Row<O> => {
  const rows: { readonly [kind: string]: Row<never> } = ops()
  // the key is the kind of the operation, so the row is the one for this operation
  return rows[op.kind] as Row<O>
}
