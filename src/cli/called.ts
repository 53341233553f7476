/** How `exp` is called, for advice: through pnpm in the repository (it runs from source), by npx where it is installed. */
export const installed: boolean = !import.meta.url.endsWith(".ts")
export const called: string = installed ? "npx exp" : "npx -y pnpm@10 exp"
