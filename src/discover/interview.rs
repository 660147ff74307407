//! The questions to one camera, in order, and its login.
//!
//! A question is asked without a login first. A camera that asks for one gets a digest, in HTTP where it offers a challenge and in SOAP
//! otherwise; never the password itself. At most [`REFUSALS_MAX`] refused logins are sent to a camera: cameras lock accounts.

use std::collections::BTreeMap;

use super::device::{self, CameraTime, Information, MediaServices, Question, Service};
use super::http::Response;
use super::media::{self, Choice, Profile, Version};
use super::soap::{self, CallError};
use super::xml::Element;
use crate::http_auth::{DigestChallenge, SignedRequest, challenges};
use crate::settings::Login;
use crate::units::{WallTime, hex};

/// Refused logins at most.
pub const REFUSALS_MAX: u8 = 3;
/// Requests to a camera at most: nine questions, two for each of 16 sources, and their repetitions with a login.
pub const REQUESTS_MAX: u32 = 128;
/// Addresses of the Device service that are tried at most.
pub const SERVICES_MAX: usize = 8;
/// A difference of clocks that spoils a login, microseconds.
const CLOCK_MATTERS: i64 = 5_000_000;

/// One request and its response, over a network or a test.
pub trait Exchange {
    /// Posts `body` and returns the response.
    ///
    /// # Errors
    /// No connection, or no response in time.
    fn post(
        &mut self,
        service: &Service,
        authorization: Option<&[u8]>,
        body: &str,
    ) -> Result<Response, String>;

    /// This machine's time.
    fn now(&self) -> WallTime;

    /// Random bytes for nonces.
    fn random(&self) -> [u8; 16];
}

/// What a camera answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Something at this address speaks ONVIF.
    pub is_onvif: bool,
    /// The camera's clock, and this machine's in the middle of that exchange.
    pub time: Option<(CameraTime, WallTime)>,
    /// Maker and model.
    pub information: Information,
    /// The used profiles of each video source.
    pub choices: Vec<Choice>,
    /// Address of the stream of each used profile, by token, as the camera names it.
    pub uris: BTreeMap<String, String>,
    /// Questions without an answer: what was asked, and why there is none.
    pub problems: Vec<(&'static str, CallError)>,
}

/// How the login is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// Not at all.
    None,
    /// In the header of SOAP.
    Token,
    /// In the header of HTTP, with the number of answers to this challenge.
    Digest(DigestChallenge, u32),
}

struct Interview<'a, E> {
    exchange: &'a mut E,
    login: Option<&'a Login>,
    proof: Proof,
    accepted: bool,
    refusals: u8,
    /// The login was refused for good.
    is_refused: bool,
    requests: u32,
    /// The camera's clock less this machine's, microseconds.
    ahead: i64,
    /// The same, by the last `Date` of a response.
    date_ahead: Option<i64>,
}

/// Asks a camera. `services` are the places where its Device service may be; the first that answers is used.
pub fn interview<E: Exchange>(
    exchange: &mut E,
    services: &[Service],
    login: Option<&Login>,
) -> Answers {
    let mut answers = Answers::default();
    let mut asking = Interview {
        exchange,
        login,
        proof: Proof::None,
        accepted: false,
        refusals: 0,
        is_refused: false,
        requests: 0,
        ahead: 0,
        date_ahead: None,
    };
    let Some(device) = asking.time(services, &mut answers) else { return answers };
    answers.is_onvif = true;
    match asking.ask(&device, &device::ask_information()) {
        Ok(found) => answers.information = device::information(&found),
        Err(error) => answers.problems.push(("GetDeviceInformation", error)),
    }
    let media = asking.media_services(&device, &mut answers);
    asking.streams(&device, &media, &mut answers);
    if answers.time.is_none() {
        // A camera that hides its clock shows it in its responses.
        let ours = asking.exchange.now();
        let utc = asking.date_ahead.map(|ahead| ours.plus_micros(ahead));
        answers.time =
            utc.map(|utc| (CameraTime { utc: Some(utc), ..CameraTime::default() }, ours));
    }
    answers
}

impl<E: Exchange> Interview<'_, E> {
    /// Asks for the clock wherever the Device service may be; returns where it is.
    fn time(&mut self, services: &[Service], answers: &mut Answers) -> Option<Service> {
        let mut first_error = None;
        for service in services.iter().take(SERVICES_MAX) {
            let before = self.exchange.now();
            match self.ask(service, &device::ask_time()) {
                Ok(found) => {
                    let after = self.exchange.now();
                    let ours = before.plus_micros((after.0 - before.0) / 2);
                    let time = device::time(&found);
                    if let Some(utc) = time.utc {
                        self.ahead = utc.0 - ours.0;
                    }
                    answers.time = Some((time, ours));
                    return Some(service.clone());
                }
                Err(error @ (CallError::Network(_) | CallError::Unreadable(_))) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => {
                    answers.problems.push(("GetSystemDateAndTime", error));
                    return Some(service.clone());
                }
            }
        }
        answers.problems.extend(first_error.map(|error| ("GetSystemDateAndTime", error)));
        None
    }

    fn media_services(&mut self, device: &Service, answers: &mut Answers) -> MediaServices {
        let mut found = match self.ask(device, &device::ask_services()) {
            Ok(answer) => device::services(&answer),
            Err(_) => MediaServices::default(),
        };
        if found == MediaServices::default() {
            match self.ask(device, &device::ask_capabilities()) {
                Ok(answer) => found = device::capabilities(&answer),
                Err(error) => answers.problems.push(("GetCapabilities", error)),
            }
        }
        // A path alone is on the port that answered, and so is the service of a camera that names none: small ones have one address.
        if found == MediaServices::default() {
            found.first = Some(device.clone());
        }
        found
    }

    fn streams(&mut self, device: &Service, media: &MediaServices, answers: &mut Answers) {
        let mut profiles = |version, service: &Option<Service>, answers: &mut Answers| {
            let service = service.as_ref()?;
            let asked = self.ask_on(service, device, &media::ask_profiles(version));
            let problem = |error| answers.problems.push(("GetProfiles", error));
            asked.map_err(problem).ok().map(|answer| media::profiles(&answer))
        };
        let mut first = profiles(Version::First, &media.first, answers).unwrap_or_default();
        let second = profiles(Version::Second, &media.second, answers).unwrap_or_default();
        media::overlay(&mut first, &second);
        let has_pictures = |profiles: &[Profile]| profiles.iter().any(|one| one.encoder.is_some());
        let (version, service, profiles) = match has_pictures(&first) {
            true => (Version::First, &media.first, first),
            false => (Version::Second, &media.second, second),
        };
        if !profiles.is_empty() {
            // One service answers: what the other one lacks does not matter.
            answers.problems.retain(|(what, _)| *what != "GetProfiles");
        }
        answers.choices = media::choose(&profiles);
        let Some(service) = service else { return };
        let used: Vec<String> = answers
            .choices
            .iter()
            .flat_map(|choice| [Some(&choice.main), choice.sub.as_ref()])
            .flatten()
            .map(|profile| profile.token.clone())
            .collect();
        for token in used {
            let asked = self.ask_on(service, device, &media::ask_uri(version, &token));
            let named = asked.and_then(|answer| {
                let named = media::uri(&answer).map(str::to_owned);
                named.ok_or_else(|| CallError::Unreadable("it holds no address".into()))
            });
            match named {
                Ok(uri) => drop(answers.uris.insert(token, uri)),
                Err(error) => answers.problems.push(("GetStreamUri", error)),
            }
        }
    }

    /// Asks a service, and where the port it names does not answer, the port of the Device service.
    fn ask_on(
        &mut self,
        service: &Service,
        device: &Service,
        question: &Question,
    ) -> Result<Element, CallError> {
        let outcome = self.ask(service, question);
        if matches!(outcome, Err(CallError::Network(_))) && service.port != device.port {
            let there = Service { port: device.port, path: service.path.clone() };
            return self.ask(&there, question);
        }
        outcome
    }

    /// Asks one question, with a login once the camera wants one.
    fn ask(&mut self, service: &Service, question: &Question) -> Result<Element, CallError> {
        // Without a login, with a challenge, with a newer one, with a token, with the camera's time.
        const TRIES: usize = 6;
        let mut refused_here = false;
        for _ in 0..TRIES {
            let response = self.post(service, question)?;
            match soap::answer(&response, &question.answer) {
                Err(CallError::NotAuthorized) => {}
                outcome => {
                    self.accepted |= outcome.is_ok() && self.proof != Proof::None;
                    return outcome;
                }
            }
            if self.login.is_none() {
                return Err(CallError::NotAuthorized);
            }
            if self.is_refused || !self.prove_otherwise(&response, &mut refused_here) {
                break;
            }
        }
        if !self.accepted {
            // No other question carries this login.
            self.is_refused = true;
            self.proof = Proof::None;
        }
        Err(CallError::LoginRefused)
    }

    /// After a refusal: chooses the next proof; false when there is no other one.
    fn prove_otherwise(&mut self, response: &Response, refused_here: &mut bool) -> bool {
        let offers = response.bytes_of("www-authenticate");
        let offers = challenges(offers.iter().map(Vec::as_slice));
        // Basic is never answered: it would hand the password to any machine that asks for it.
        let offered = offers.digests().max_by_key(|offer| offer.algorithm);
        let fresh = match (&self.proof, &offered) {
            (Proof::None, _) => true,
            // Its nonce was used before: it may be too old or used up, which is no refusal. `stale`
            // on a nonce that was never used is what a wrong password looks like, too.
            (Proof::Digest(_, count), Some(_)) => *count > 1,
            _ => false,
        };
        if !fresh {
            // A login that was right before lacks a right here.
            if self.accepted {
                return false;
            }
            self.refusals += 1;
            if self.refusals >= REFUSALS_MAX {
                return false;
            }
        }
        let had_token = self.proof == Proof::Token;
        match offered {
            Some(offered) if fresh || had_token => {
                self.proof = Proof::Digest(offered, 0);
                true
            }
            // A token was refused: perhaps the camera's clock is not what it was taken for.
            _ if had_token => !std::mem::replace(refused_here, true) && self.take_date(),
            _ => {
                self.proof = Proof::Token;
                true
            }
        }
    }

    /// Takes the camera's time from the last `Date`; true if that changes something.
    fn take_date(&mut self) -> bool {
        let Some(ahead) = self.date_ahead else { return false };
        let changed = (ahead - self.ahead).abs() > CLOCK_MATTERS;
        self.ahead = ahead;
        changed
    }

    fn post(&mut self, service: &Service, question: &Question) -> Result<Response, CallError> {
        self.requests += 1;
        if self.requests > REQUESTS_MAX {
            return Err(CallError::Network("too many questions".into()));
        }
        let random = self.exchange.random();
        let created = self.exchange.now().plus_micros(self.ahead);
        let header = match (&self.proof, self.login) {
            (Proof::Token, Some(login)) => soap::username_token(login, &random, created),
            _ => String::new(),
        };
        let body = soap::envelope(&header, &question.body);
        let authorization = match (&mut self.proof, self.login) {
            (Proof::Digest(challenge, count), Some(login)) => {
                *count += 1;
                let request = SignedRequest {
                    method: "POST",
                    uri: &service.path,
                    body: body.as_bytes(),
                    count: *count,
                    cnonce: &hex(&random[..8]),
                };
                Some(challenge.answer(login, &request))
            }
            _ => None,
        };
        let posted = self.exchange.post(service, authorization.as_deref(), &body);
        let response = posted.map_err(CallError::Network)?;
        let date = response.values("date").next();
        if let Some(date) = date.and_then(|text| jiff::fmt::rfc2822::parse(text).ok()) {
            let ahead = date.timestamp().as_microsecond() - self.exchange.now().0;
            self.date_ahead = Some(ahead);
        }
        Ok(response)
    }
}

#[cfg(test)]
#[path = "interview_tests.rs"]
mod interview_tests;
