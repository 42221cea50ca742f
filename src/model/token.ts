/** What a server's client may do; `admin` includes the others. */
export const scopes = ['read', 'submit', 'work', 'admin'] as const
export type Scope = (typeof scopes)[number]
