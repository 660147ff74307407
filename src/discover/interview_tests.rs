//! Interviews with cameras in memory.

use std::cell::RefCell;

use super::*;
use crate::units::Secret;

type Answer<'a> = dyn Fn(&Service, Option<&str>, &str) -> Result<Response, String> + 'a;

/// A camera in memory, and what it was asked.
struct Stub<'a> {
    answer: &'a Answer<'a>,
    asked: RefCell<Vec<String>>,
}

impl Exchange for Stub<'_> {
    fn post(&mut self, to: &Service, login: Option<&[u8]>, body: &str) -> Result<Response, String> {
        let login = login.map(|value| std::str::from_utf8(value).unwrap());
        let proof = match (login, body.contains("UsernameToken")) {
            (Some(_), _) => "digest",
            (None, true) => "token",
            (None, false) => "plain",
        };
        let name = body.split_once("Body><").map_or("", |(_, rest)| rest);
        let name = name.split(' ').next().unwrap_or_default();
        self.asked.borrow_mut().push(format!("{}{} {name} {proof}", to.port, to.path));
        (self.answer)(to, login, body)
    }

    fn now(&self) -> WallTime {
        WallTime(1_800_000_000_000_000)
    }

    fn random(&self) -> [u8; 16] {
        [7; 16]
    }
}

fn response(status: u16, headers: &[(&str, &str)], inner: &str) -> Result<Response, String> {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let body = format!("<Envelope><Body>{inner}</Body></Envelope>").into_bytes();
    Ok(Response { status, headers, body })
}

const TIME: &str = "<GetSystemDateAndTimeResponse><SystemDateAndTime><UTCDateTime><Time><Hour>1</Hour><Minute>0</Minute>\
    <Second>0</Second></Time><Date><Year>2027</Year><Month>1</Month><Day>15</Day></Date></UTCDateTime></SystemDateAndTime>\
    </GetSystemDateAndTimeResponse>";
const SERVICES: &str = "<GetServicesResponse><Service><Namespace>http://www.onvif.org/ver10/media/wsdl</Namespace>\
    <XAddr>http://9.9.9.9:8000/media</XAddr></Service></GetServicesResponse>";
const PROFILES: &str = "<GetProfilesResponse><Profiles token='a'><VideoEncoderConfiguration><Encoding>H264</Encoding>\
    <Resolution><Width>1920</Width><Height>1080</Height></Resolution></VideoEncoderConfiguration></Profiles></GetProfilesResponse>";
const URI: &str =
    "<GetStreamUriResponse><MediaUri><Uri>rtsp://0.0.0.0/a</Uri></MediaUri></GetStreamUriResponse>";
const REFUSAL: &str =
    "<Fault><Code><Subcode><Value>ter:NotAuthorized</Value></Subcode></Code></Fault>";

/// The answer to a question that is allowed.
fn open(body: &str) -> Result<Response, String> {
    let all = [
        ("GetSystemDateAndTime", TIME),
        (
            "GetDeviceInformation",
            "<GetDeviceInformationResponse><Model>X</Model></GetDeviceInformationResponse>",
        ),
        ("GetServices", SERVICES),
        ("GetProfiles", PROFILES),
        ("GetStreamUri", URI),
    ];
    let found = all.iter().find(|(name, _)| body.contains(&format!("<{name} ")));
    response(200, &[], found.map_or("<Fault/>", |(_, answer)| answer))
}

fn device(port: u16) -> Vec<Service> {
    vec![Service { port, path: "/d".into() }]
}

fn login() -> Login {
    Login { user: "admin".into(), password: Secret::new("hunter2") }
}

fn ask(answer: &Answer<'_>, services: &[Service], login: Option<&Login>) -> (Answers, Vec<String>) {
    let mut stub = Stub { answer, asked: RefCell::default() };
    let answers = interview(&mut stub, services, login);
    (answers, stub.asked.into_inner())
}

#[test]
fn an_open_camera_is_asked_once_for_each_thing() {
    let (answers, asked) = ask(&|_, _, body| open(body), &device(80), None);
    assert_eq!(
        asked,
        [
            "80/d GetSystemDateAndTime plain",
            "80/d GetDeviceInformation plain",
            "80/d GetServices plain",
            "8000/media GetProfiles plain",
            "8000/media GetStreamUri plain",
        ]
    );
    assert!(answers.problems.is_empty(), "{:?}", answers.problems);
    assert_eq!(answers.uris["a"], "rtsp://0.0.0.0/a");
    assert_eq!(answers.information.model, "X");
}

#[test]
fn a_camera_that_wants_a_token_gets_one_of_its_own_time() {
    let answer = |_: &Service, _: Option<&str>, body: &str| match body.contains("<GetSystem") {
        true => open(body),
        false if body.contains("Created>2027-01-15T01:00:00.000Z") => open(body),
        false => response(400, &[], REFUSAL),
    };
    let (answers, asked) = ask(&answer, &device(80), Some(&login()));
    assert!(answers.problems.is_empty(), "{:?}", answers.problems);
    assert_eq!(asked.iter().filter(|line| line.ends_with("plain")).count(), 2, "{asked:?}");
    let (answers, asked) = ask(&answer, &device(80), None);
    assert!(answers.problems.iter().all(|(_, error)| *error == CallError::NotAuthorized));
    assert!(asked.len() <= 6, "{asked:?}");
}

#[test]
fn a_camera_with_a_challenge_gets_a_digest() {
    let challenge = [("www-authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"")];
    let answer = |_: &Service, login: Option<&str>, body: &str| match login {
        Some(text) if text.contains("username=\"admin\"") => open(body),
        _ => response(401, &challenge, ""),
    };
    let (answers, asked) = ask(&answer, &device(80), Some(&login()));
    assert!(answers.problems.is_empty() && answers.time.is_some(), "{:?}", answers.problems);
    assert_eq!(asked.iter().filter(|line| line.ends_with("digest")).count(), 5, "{asked:?}");
    assert_eq!(asked.len(), 6, "one question was repeated: {asked:?}");
}

#[test]
fn a_used_nonce_is_no_refusal() {
    let count = std::cell::Cell::new(0);
    let answer = move |_: &Service, login: Option<&str>, body: &str| {
        count.set(count.get() + 1);
        let nonce = format!("Digest realm=\"r\", nonce=\"n{}\", qop=\"auth\"", count.get());
        match login {
            Some(text) if text.contains("nc=00000001") => open(body),
            _ => response(401, &[("www-authenticate", nonce.as_str())], ""),
        }
    };
    let (answers, _) = ask(&answer, &device(80), Some(&login()));
    assert!(answers.problems.is_empty(), "{:?}", answers.problems);
}

#[test]
fn the_clock_of_a_camera_that_hides_it_is_that_of_http() {
    let date = [("date", "Thu, 01 Jan 1970 00:00:20 GMT")];
    let answer = |_: &Service, _: Option<&str>, body: &str| match body
        .contains("Created>1970-01-01T00:00:20.000Z")
    {
        true if body.contains("<GetSystem") => response(
            200,
            &[],
            &TIME
                .replace("2027", "1970")
                .replace(">15<", ">1<")
                .replace(">1</Hour>", ">0</Hour>")
                .replace("<Second>0<", "<Second>20<"),
        ),
        true => open(body),
        false => response(400, &date, REFUSAL),
    };
    let (answers, asked) = ask(&answer, &device(80), Some(&login()));
    assert!(answers.problems.is_empty(), "{asked:?} {:?}", answers.problems);
}

#[test]
fn a_wrong_login_is_sent_three_times_at_most() {
    let challenge = [
        ("www-authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\""),
        ("date", "Thu, 01 Jan 1970 00:00:20 GMT"),
    ];
    let stale = [("www-authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\", stale=true")];
    for headers in [&challenge[..], &challenge[1..], &[], &stale[..]] {
        let refuse = |_: &Service, _: Option<&str>, _: &str| response(401, headers, REFUSAL);
        let (answers, asked) = ask(&refuse, &device(80), Some(&login()));
        let proofs = asked.iter().filter(|line| !line.ends_with("plain")).count();
        assert!((1..=3).contains(&proofs), "{asked:?}");
        assert!(answers.is_onvif && answers.choices.is_empty());
        assert!(answers.problems.iter().any(|(_, error)| *error == CallError::LoginRefused));
    }
}

#[test]
fn the_next_address_is_asked_where_one_is_dead() {
    let services: Vec<Service> =
        [81, 82, 83].iter().map(|port| Service { port: *port, path: "/d".into() }).collect();
    let answer = |to: &Service, _: Option<&str>, body: &str| match to.port {
        81 => Err("nothing listens there".into()),
        82 => Ok(Response { status: 404, headers: Vec::new(), body: b"<html>".to_vec() }),
        8000 => Err("nothing listens there".into()),
        _ => open(body),
    };
    let (answers, asked) = ask(&answer, &services, None);
    assert_eq!(answers.uris.len(), 1, "the port of the device stands in: {asked:?}");
    let (answers, _) = ask(&|_, _, _| Err("nothing listens there".into()), &services, None);
    assert!(!answers.is_onvif && answers.problems.len() == 1);
}

#[test]
fn media_2_is_asked_alone_where_a_device_has_nothing_else() {
    let second = "<GetProfilesResponse><Profiles token='b'><Configurations><VideoEncoder GovLength='30'><Encoding>H265</Encoding>\
        <Resolution><Width>1280</Width><Height>720</Height></Resolution></VideoEncoder></Configurations></Profiles></GetProfilesResponse>";
    let answer = |to: &Service, _: Option<&str>, body: &str| match body {
        _ if body.contains("<GetServices ") => {
            response(200, &[], &SERVICES.replace("ver10/media", "ver20/media"))
        }
        _ if body.contains("<GetProfiles ") => response(200, &[], second),
        _ if body.contains("<GetStreamUri ") => {
            assert!(to.path == "/media" && body.contains("ver20/media"), "{body}");
            response(200, &[], "<GetStreamUriResponse><Uri>/b</Uri></GetStreamUriResponse>")
        }
        _ => open(body),
    };
    let (answers, _) = ask(&answer, &device(80), None);
    assert_eq!(answers.uris["b"], "/b");
    assert_eq!(answers.choices[0].main.encoder.as_ref().unwrap().gop, Some(30));
}

#[test]
fn endless_faults_end_the_interview() {
    let answer = |_: &Service, _: Option<&str>, _: &str| response(500, &[], "<Fault/>");
    let (answers, asked) = ask(&answer, &device(80), Some(&login()));
    assert!(answers.problems.len() >= 3 && asked.len() < 10, "{asked:?}");
}
