/**
 * What XLA is told by other means than a definition in primitives: attention by cuDNN on a card in bf16; and a write of one
 * place of every row as a scatter, which compilers do where the tensor lies instead of choosing for each of its elements.
 */
import { overwriteOp } from "../../tensor/composites/overwrite.ts"
import type { Composite } from "../../tensor/Tensor.ts"
import type { Mesh } from "../mesh.ts"
import { attentionOver } from "./lower/attentionOver.ts"
import { fusedAttention } from "./lower/fusedAttention.ts"
import { overwriting } from "./lower/indexing.ts"
import { isAttention } from "./pad/attention.ts"
import type { Fuse } from "./writer.ts"

export interface Faster {
  /** The composites that rewritings of a program leave whole. */
  readonly keep: (definition: Composite) => boolean
  /** Their values. */
  readonly fuse: Fuse
}

/**
 * @param attention whether attention goes by cuDNN
 * @param mesh the devices that share a program; one where it is left out
 */
export const fasterBy = ({
  attention,
  mesh
}: {
  readonly attention: boolean
  readonly mesh?: Mesh | undefined
}): Faster => {
  const byLibrary: Fuse = !attention ? () => undefined : mesh === undefined ? fusedAttention : attentionOver(mesh)
  return {
    keep: (definition) => definition.name === overwriteOp.name || (attention && isAttention(definition)),
    fuse: (op, operands, module) => overwriting(op, operands, module) ?? byLibrary(op, operands, module)
  }
}
