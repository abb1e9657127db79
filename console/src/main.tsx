import { render } from "preact";
import { App } from "./app";
import { arrive } from "./ui/oidc";
import "./style/main.css";

// Whoever comes back from an identity provider is signed in while the page shows itself.
void arrive();
render(<App />, document.getElementById("app")!);
