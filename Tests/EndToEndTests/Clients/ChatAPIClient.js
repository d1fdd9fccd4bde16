class ChatAPIClient {
	constructor(masterKey) {
		this.masterKey = masterKey;
		this.baseURL = "http://localhost:8000/api/v1";
	}

	// Admin function - uses master key
	async createUser(userData) {
		const response = await fetch(`${this.baseURL}/users`, {
			method: "POST",
			headers: {
				Authorization: `Bearer ${this.masterKey}`,
				"Content-Type": "application/json",
			},
			body: JSON.stringify(userData),
		});
		return response.json();
	}

	// User login - returns scoped key
	async loginUser(email) {
		const response = await fetch(`${this.baseURL}/users/login`, {
			method: "POST",
			headers: {
				Authorization: `Bearer ${this.masterKey}`,
				"Content-Type": "application/json",
			},
			body: JSON.stringify({ email }),
		});
		return response.json();
	}

	// User action - uses scoped key
	async sendMessage(userKey, messageData) {
		const response = await fetch(`${this.baseURL}/messages`, {
			method: "POST",
			headers: {
				Authorization: `Bearer ${userKey}`,
				"Content-Type": "application/json",
			},
			body: JSON.stringify(messageData),
		});
		return response.json();
	}
}
