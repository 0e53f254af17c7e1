// An OIDC provider for tests: node oidc_provider.mjs LIBRARY PORT ACCOUNTS REDIRECT_URI
// ACCOUNTS is a JSON file, read at each use: subject → claims. Whoever types a subject as the login is that subject.
import { readFileSync } from "node:fs";

const [library, port, accounts, redirect] = process.argv.slice(2);
const { default: Provider } = await import(library);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: "pagewarden", client_secret: "the-client-secret", redirect_uris: [redirect] }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
  pkce: { required: () => true },
  cookies: { keys: ["for tests"] },
  features: { devInteractions: { enabled: true } },
  findAccount: (_, sub) => {
    const claims = JSON.parse(readFileSync(accounts, "utf8"))[sub];
    return claims && { accountId: sub, claims: () => ({ sub, ...claims }) };
  },
  // Everything that is asked for is granted, without a page that asks.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope("openid email profile");
    await grant.save();
    return grant;
  },
});
provider.listen(Number(port), "127.0.0.1");
